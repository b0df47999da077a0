"""One record, one push to each device of its customer that has none of it yet.

What each device was given is written down when the record is settled, so a record that is tried again goes only to the
devices that surely have none. It is sent once a device has it and no other is still to be tried.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection

from audiences.intake.attributes.fields import storable
from delivery import tokens
from delivery.channels.base import (
    Answers,
    ChannelDown,
    Envelope,
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
    """A device may have been given it at an earlier try, and none surely was."""


@dataclass(frozen=True, slots=True)
class DeviceResult:
    """That a device was given its push of a record, with the provider's name for it; or perhaps was."""

    record: int
    token: str
    taken: bool
    provider_id: str = ""


@dataclass(slots=True)
class FanOutResult:
    """What became of one record, told as a channel tells of one copy."""

    answer: str | BaseException
    given: list[DeviceResult] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)

    def send(self, _envelope: Envelope) -> str:
        """Say it again."""
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def close(self) -> None:
        """Nothing is open."""

    @property
    def is_half_done(self) -> bool:
        """Whether it waits though some device has it, or may: who dies now must not be taken for not having begun."""
        return bool(self.given) and isinstance(self.answer, Unavailable)


def record_of_token(token: str) -> DeliveryRecord | None:
    """The record whose push came with this token; None for a token that is not ours."""
    read = tokens.read_token(token, purpose="push", numbers=1)
    return DeliveryRecord.objects.filter(pk=read[0]).first() if read else None


def earlier_device_copies(records: Iterable[int]) -> dict[int, list[DeviceCopy]]:
    """What devices were given at earlier tries, by record."""
    found: dict[int, list[DeviceCopy]] = {record: [] for record in records}
    for copy in DeviceCopy.objects.filter(record__in=found).order_by("pk"):
        found[copy.record_id].append(copy)
    return found


def fan_out_result(record: int, answers: Answers, *, earlier: Sequence[DeviceCopy], is_last: bool) -> FanOutResult:
    """What became of a record, by what became of it at each device now and earlier; `is_last`: no further try."""
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
    answer: str | BaseException
    if later and not (is_last and (ids or perhaps)):
        answer = retry_answer(later, has_it=len(ids), of=len(answers) + len(earlier), is_begun=bool(taken or lost))
    elif ids:
        answer = ids[0]
    else:
        answer = next(iter([*perhaps, *final]), None) or NoReachableDevice(
            "None of their devices takes pushes any more."
        )
    given = [DeviceResult(record, token, taken=True, provider_id=name) for token, name in taken.items()]
    given += [DeviceResult(record, token, taken=False) for token in lost]
    dead = [token for token, said in refused.items() if isinstance(said, NoSuchDevice)]
    return FanOutResult(answer, given, dead)


def retry_answer(later: list[Unavailable], *, has_it: int, of: int, is_begun: bool) -> Unavailable:
    """What to say where some device is to be tried again; that the channel is down only where nothing has left."""
    if not is_begun and all(isinstance(said, ChannelDown) for said in later):
        return later[0]
    so_far = f"{has_it} of {of} devices have it. " if has_it else ""
    return Unavailable(f"{so_far}{later[0]}", after=max(said.after for said in later))


def channel_down_reason(answers: Iterable[Answers]) -> str:
    """Why nothing more should be handed over for now: the channel is down, or asks everybody to wait; else empty."""
    said = [one for answered in answers for one in answered.values()]
    for one in said:
        if isinstance(one, ChannelDown):
            return str(one)
    return str(said[0]) if said and all(isinstance(one, Unavailable) for one in said) else ""


def store_device_results(given: Sequence[DeviceResult], *, at: datetime) -> None:
    """Write down what devices were given; again is no harm."""
    params: dict[str, Any] = {
        "at": at,
        "records": [one.record for one in given],
        "tokens": [one.token for one in given],
        "taken": [one.taken for one in given],
        "providers": [storable(one.provider_id) for one in given],
    }
    with connection.cursor() as cursor:
        cursor.execute(STORE_RESULTS, params)
