"""Outcome of copies, and the back-off after a failure."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.utils import InterfaceError, OperationalError

from audiences.intake.attributes.fields import replace_unstorable
from delivery.models import Reason
from delivery.sending import push_fanout
from delivery.sending.claim import Claimed

# How long to wait before each further attempt; after the last one the record fails.
BACK_OFF = [timedelta(minutes=m) for m in (1, 5, 15, 60, 180, 360, 720)]


OUTAGE_RETRY_AFTER = timedelta(minutes=1)
# In seconds, before a lost database is tried again.
DATABASE_RETRY_PAUSE = 0.2
DATABASE_LOST = (OperationalError, InterfaceError)

SENDER_IS_REFUSED = "Paused: the mail server refuses this sender. Sending resumes once it is accepted."
NONE_IS_FINISHED = "Paused: no copy of this message can be rendered."
OF_ALL_COPIES = (SENDER_IS_REFUSED, NONE_IS_FINISHED)


Clock = Callable[[], datetime]


@dataclass(slots=True)
class Outcome:
    """Results of a batch that are not settled yet, by record."""

    sent: dict[int, str] = field(default_factory=dict)
    failed: list[tuple[int, Reason, str]] = field(default_factory=list)
    retry: list[tuple[int, datetime, str]] = field(default_factory=list)
    # Nothing of these was sent: the channel was down, or the batch ended before their turn.
    not_begun: list[int] = field(default_factory=list)
    uncertain: list[tuple[int, str]] = field(default_factory=list)
    # Why this channel takes nothing right now; empty while it works.
    down: str = ""
    # Why no copy of this message can be sent: its sender is refused, or no copy can be rendered.
    sender_refused: str = ""
    unfinished: str = ""
    # Results of devices, and the tokens of devices that can no longer be reached.
    given: list[push_fanout.DeviceResult] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to settle."""
        return not (self.sent or self.failed or self.retry or self.not_begun or self.uncertain or self.given)

    @property
    def is_only_sent(self) -> bool:
        """Whether all copies were sent, by a channel without devices."""
        others = self.failed or self.retry or self.not_begun or self.uncertain or self.given or self.dead
        return bool(self.sent) and not others

    @property
    def message_trouble(self) -> str:
        """Why no copy of this message can be sent; "" if some can."""
        if self.sender_refused:
            return f"{SENDER_IS_REFUSED} {self.sender_refused}"
        return f"{NONE_IS_FINISHED} See the server’s log: {self.unfinished}." if self.unfinished else ""

    def try_later(self, record: Claimed, *, at: datetime, words: str, least: timedelta = timedelta(0)) -> None:
        """Schedule the next attempt of a record, or fail it after the last one."""
        if record.attempts > len(BACK_OFF):
            self.failed.append((record.pk, Reason.GAVE_UP, replace_unstorable(words)))
        else:
            self.retry.append((record.pk, back_off(record, at=at, least=least), replace_unstorable(words)))


def back_off(record: Claimed, *, at: datetime, least: timedelta = timedelta(0)) -> datetime:
    """Return when to try again: later each time, not before the answer allows it, with jitter."""
    wait = max(least, BACK_OFF[min(record.attempts, len(BACK_OFF)) - 1])
    return at + wait * random.Random(f"{record.pk}.{record.attempts}").uniform(1, 1.25)  # noqa: S311 - jitter
