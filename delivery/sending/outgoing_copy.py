"""A copy on its way: how a sending thread sends it, and what its answer means. Nothing here uses the database."""

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audiences.intake.attributes.fields import replace_unstorable
from delivery.channels import (
    Channel,
    ChannelDown,
    ConnectionRefused,
    DeviceChannel,
    Envelope,
    NoReachableDevice,
    NoSuchMailbox,
    NotingChannel,
    Rejected,
    SenderRefused,
    Unavailable,
)
from delivery.channels.base import Answer
from delivery.models import DeviceCopy, Reason
from delivery.sending import outcome as sending_outcome
from delivery.sending import push_fanout
from delivery.sending.claim import Claimed
from delivery.sending.journal import Journal, NoJournal
from delivery.sending.outcome import Outcome
from delivery.sending.pool import ConnectionEnds
from delivery.telemetry import metrics, tracing

if TYPE_CHECKING:
    from delivery.sending.batch import OpenBatch

log = logging.getLogger(__name__)

# A third party's error text may be a whole page.
DETAIL_MAX_LENGTH = 1000


class Withheld(Exception):
    """A thread did not begin a copy, as it may not go now."""


@dataclass(slots=True, eq=False)
class Gate:
    """Whether copies of a channel, message or batch may begin. A sending thread closes it at once at a bad answer."""

    is_closed: bool = False
    why: str = ""

    def close(self, why: str = "") -> None:
        """Let no further copy begin; the first reason stays."""
        self.is_closed, self.why = True, self.why or why


@dataclass(slots=True, eq=False)
class OutgoingCopy:
    """One copy of a batch, and how a sending thread sends it."""

    batch: "OpenBatch"
    # Its slot of the throttle.
    place: int
    record: Claimed
    envelope: Envelope
    # Device copies of earlier attempts; and the answers of devices to this one, summed up.
    earlier: list[DeviceCopy]
    result: push_fanout.FanOutResult | None = None

    def send(self, channel: Channel) -> Answer:
        """Send it and note that in the journal. Return the provider's id or the rejection; raise any other answer."""
        batch = self.batch
        if not batch.may_begin():
            raise Withheld
        began = time.perf_counter()
        with tracing.start_span("copy", parent=batch.span, record=self.record.pk, attempt=self.record.attempts) as span:
            answer = self.send_to_devices(channel) if isinstance(channel, DeviceChannel) else self.attempt(channel)
            if not isinstance(answer, str):
                # Its text may quote an address.
                span.fail(type(answer).__name__)
        if not (self.result and self.result.is_half_done):
            note_answer(batch.journal, self.record.pk, answer)
        if isinstance(answer, str):
            metrics.observe_duration("hand_over", began, type(channel).__name__.lower())
        if isinstance(answer, str | Rejected):
            return answer
        if isinstance(answer, ConnectionRefused) and batch.lane.has_other_connections:
            raise ConnectionEnds(str(answer)) from answer
        self.close_gates(answer)
        raise answer

    def attempt(self, channel: Channel) -> Answer:
        """Send it. Return the provider's id for it, or the exception that the channel raised."""
        try:
            if isinstance(channel, NotingChannel):
                provider_id = channel.send_noting(self.envelope, begins=self.note_beginning)
            else:
                self.note_beginning()
                provider_id = channel.send(self.envelope)
            # A server's ids are its own: one that the database cannot store would leave the whole batch unsettled.
            return replace_unstorable(provider_id)
        except BaseException as reason:  # noqa: BLE001 - `record_answer` raises again what ends the process
            return reason

    def note_beginning(self) -> None:
        """Note in the journal that the copy begins: after a kill it is uncertain, unless an answer is noted too."""
        self.batch.journal.sending(self.record.pk)

    def send_to_devices(self, channel: DeviceChannel) -> Answer:
        self.note_beginning()
        answers = channel.send_to_each(self.envelope)
        is_last = self.record.attempts > len(sending_outcome.BACK_OFF)
        self.result = push_fanout.fan_out_result(self.record.pk, answers, earlier=self.earlier, is_last=is_last)
        self.batch.device_answers.append(answers)
        if down := push_fanout.channel_down_reason(self.batch.device_answers, of=self.batch.size):
            self.batch.lane.gate.close(replace_unstorable(down))
        return self.result.answer

    def close_gates(self, answer: BaseException) -> None:
        """Keep from beginning the copies that would get the same answer."""
        words = replace_unstorable(str(answer))
        if isinstance(answer, ChannelDown):
            self.batch.lane.gate.close(words)
        elif isinstance(answer, SenderRefused):
            self.batch.of.gate.close(words)
        elif not isinstance(answer, Exception):
            # The process is to end.
            self.batch.gate.close(words)


def note_answer(journal: Journal | NoJournal, pk: int, answer: Answer) -> None:
    """Note an answer that is certain."""
    if isinstance(answer, str):
        journal.accepted(pk, replace_unstorable(answer))
    elif isinstance(answer, Rejected | Unavailable):
        journal.rejected(pk)


def record_answer(record: Claimed, answer: Answer, outcome: Outcome, *, clock: sending_outcome.Clock) -> None:
    """Add the answer for one record to the outcome. Raise an error that must end the process."""
    if isinstance(answer, str):
        outcome.sent[record.pk] = replace_unstorable(answer)
        return
    words = replace_unstorable(str(answer))
    if isinstance(answer, NoSuchMailbox):
        outcome.failed.append((record.pk, Reason.BOUNCED, words))
    elif isinstance(answer, Rejected):
        outcome.failed.append((record.pk, Reason.REJECTED, words))
    elif isinstance(answer, ChannelDown | SenderRefused):
        outcome.not_begun.append(record.pk)
    elif isinstance(answer, NoReachableDevice):
        outcome.retry.append((record.pk, clock(), words))
    elif isinstance(answer, Unavailable):
        outcome.try_later(record, at=clock(), words=str(answer), least=answer.after)
    else:
        # The channel may have received the copy.
        log.warning("record %s is uncertain", record.pk, exc_info=answer, extra={"record": record.pk})
        outcome.uncertain.append(
            (record.pk, replace_unstorable(f"{type(answer).__name__}: {answer}")[:DETAIL_MAX_LENGTH])
        )
        if not isinstance(answer, Exception):
            raise answer
