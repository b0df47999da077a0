"""Fan-out: one record, one push to each device of its customer that has not received it.

The result for each device is stored when the record is settled, so a retry goes only to devices that surely have no
copy. The record counts as sent once a device has it and no other device is still to be tried.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection

from audiences.intake.attributes.fields import replace_unstorable
from delivery import tokens
from delivery.channels.base import (
    Answer,
    Answers,
    ChannelDown,
    NoReachableDevice,
    NoSuchDevice,
    Rejected,
    Unavailable,
)
from delivery.models import DeliveryRecord, DeviceCopy

STORE_RESULTS = (
    "INSERT INTO delivery_devicecopy (record_id, device_id, taken, provider_id, handed_over_at)"
    " SELECT given.record, v.id, given.taken, given.provider_id, %(at)s"
    " FROM unnest(%(records)s::bigint[], %(tokens)s::text[], %(taken)s::boolean[], %(providers)s::text[])"
    " AS given(record, token, taken, provider_id) JOIN audiences_device v ON v.token = given.token"
    " ORDER BY v.id FOR KEY SHARE OF v"
    " ON CONFLICT (record_id, device_id) DO UPDATE SET taken = excluded.taken, provider_id = excluded.provider_id,"
    " handed_over_at = excluded.handed_over_at WHERE NOT delivery_devicecopy.taken"
)


class MaybeDelivered(Exception):
    """A device may have received it at an earlier attempt, and no device surely did."""


@dataclass(frozen=True, slots=True)
class DeviceResult:
    """One device received its push of a record (`taken`, with the provider's id), or may have."""

    record: int
    token: str
    taken: bool
    provider_id: str = ""


@dataclass(slots=True)
class FanOutResult:
    """The answer for one record, out of the answers for its devices."""

    answer: Answer
    given: list[DeviceResult] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)

    @property
    def is_half_done(self) -> bool:
        """Return whether the record waits although a device has it, or may: a crash now must leave it uncertain."""
        return bool(self.given) and isinstance(self.answer, Unavailable)


def record_of_token(token: str) -> DeliveryRecord | None:
    """Return the record whose push carried this token; None if the token is not ours."""
    read = tokens.read_token(token, purpose="push", numbers=1)
    return DeliveryRecord.objects.filter(pk=read[0]).first() if read else None


def earlier_device_copies(records: Iterable[int]) -> dict[int, list[DeviceCopy]]:
    """Return the device copies of earlier attempts, by record."""
    found: dict[int, list[DeviceCopy]] = {record: [] for record in records}
    for copy in DeviceCopy.objects.filter(record__in=found).order_by("pk"):
        found[copy.record_id].append(copy)
    return found


def fan_out_result(record: int, answers: Answers, *, earlier: Sequence[DeviceCopy], is_last: bool) -> FanOutResult:
    """Sum up the answers for a record's devices, now and earlier. `is_last`: there is no further attempt."""
    taken = {token: said for token, said in answers.items() if isinstance(said, str)}
    later = [said for said in answers.values() if isinstance(said, Unavailable)]
    refused = {token: said for token, said in answers.items() if isinstance(said, Rejected)}
    lost = {
        token: said
        for token, said in answers.items()
        if not isinstance(said, str | Unavailable) and token not in refused
    }
    ids = [*(copy.provider_id for copy in earlier if copy.taken), *taken.values()]
    perhaps: list[BaseException] = [*lost.values(), *(MaybeDelivered() for copy in earlier if not copy.taken)]
    final = [said for said in refused.values() if not isinstance(said, NoSuchDevice)]
    answer: Answer
    if later and not (is_last and (ids or perhaps)):
        answer = retry_answer(later, has_it=len(ids), of=len(answers) + len(earlier), is_begun=bool(taken or lost))
    elif ids:
        answer = ids[0]
    else:
        answer = next(iter([*perhaps, *final]), None) or NoReachableDevice(
            "No device of this customer accepts push messages now."
        )
    given = [DeviceResult(record, token, taken=True, provider_id=name) for token, name in taken.items()]
    given += [DeviceResult(record, token, taken=False) for token in lost]
    dead = [token for token, said in refused.items() if isinstance(said, NoSuchDevice)]
    return FanOutResult(answer, given, dead)


def retry_answer(later: list[Unavailable], *, has_it: int, of: int, is_begun: bool) -> Unavailable:
    """Return the answer if a device is to be tried again: ChannelDown only if no push has left."""
    if not is_begun and all(isinstance(said, ChannelDown) for said in later):
        return later[0]
    so_far = f"{has_it} of {of} devices have it. " if has_it else ""
    return Unavailable(f"{so_far}{later[0]}", after=max(said.after for said in later))


def channel_down_reason(answers: Sequence[Answers], *, of: int) -> str:
    """Return why the channel should rest: it is down, or all `of` copies of a batch were asked to wait; else ""."""
    said = [one for answered in answers for one in answered.values()]
    for one in said:
        if isinstance(one, ChannelDown):
            return str(one)
    ask_to_wait = len(answers) >= of and said and all(isinstance(one, Unavailable) for one in said)
    return str(said[0]) if ask_to_wait else ""


def store_device_results(given: Sequence[DeviceResult], *, at: datetime) -> None:
    """Store the results of devices. Idempotent."""
    params: dict[str, Any] = {
        "at": at,
        "records": [one.record for one in given],
        "tokens": [one.token for one in given],
        "taken": [one.taken for one in given],
        "providers": [replace_unstorable(one.provider_id) for one in given],
    }
    with connection.cursor() as cursor:
        cursor.execute(STORE_RESULTS, params)
