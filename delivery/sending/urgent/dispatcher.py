"""Urgent emails: sent one by one, over an urgent share of the channel's connections, ahead of all campaigns.

These are teammates' answers and confirmation emails. A worker claims the row of an email and commits before it sends,
and only that worker settles it. An email is never sent again if it is uncertain whether it left. Several emails are
sent at a time.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, TypeVar

from django.db import connection
from django.db.models import QuerySet

from audiences.intake.attributes.fields import replace_unstorable
from audiences.models import ConfirmationMail
from delivery import shutdown
from delivery.channels import Channel as EmailChannel
from delivery.channels import ChannelDown, ConnectionRefused, Envelope, NoSuchMailbox, Rejected, Unavailable
from delivery.channels.base import Answer
from delivery.models import AnswerMail, ChannelOutage, Status
from delivery.sending import outcome, suppression, throttle
from delivery.sending.lane import Lane, open_lane
from delivery.sending.outbox import Outbox
from delivery.sending.outcome import Clock
from delivery.sending.outgoing_copy import Withheld
from delivery.sending.pool import ConnectionEnds, Job
from messaging.models import Channel

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=10)
# In seconds: the longest wait for an answer or a connection, and the pause after a refused connection.
WAIT_INTERVAL = 0.1

Mail = TypeVar("Mail", AnswerMail, ConfirmationMail)


class Kind(ABC, Generic[Mail]):
    """A kind of urgent email: its outbox, and how its emails are built."""

    outbox: ClassVar[Outbox[Any]]

    @abstractmethod
    def claimable(self, *, at: datetime) -> QuerySet[Mail]:
        """Return the emails that may be claimed at `at`."""

    @abstractmethod
    def reason_not_to_send(self, mail: Mail, *, at: datetime) -> str:
        """Return why a claimed email is not needed any more, as a text for staff; "" if it is."""

    @abstractmethod
    def build_envelope(self, mail: Mail) -> Envelope:
        """Return a claimed email."""

    @abstractmethod
    def describe(self, mail: Mail) -> str:
        """Return a name of the email for the log."""

    def claim(self, *, at: datetime) -> Mail | None:
        """Claim one due email and commit; return None if no other can be sent now."""
        taken: list[Mail] = self.outbox.claim(self.claimable(at=at), at=at, limit=1, taken_at=at)
        return taken[0] if taken else None

    def expire_leases(self, *, at: datetime) -> int:
        """Mark emails as uncertain whose worker never settled them; return their number."""
        return self.outbox.expired(at).update(
            status=Status.UNCERTAIN, claim=None, leased_until=None, detail="The worker stopped while sending."
        )


def outbox_of(model: type[Mail]) -> Outbox[Mail]:
    """Return the outbox of the emails of a model."""
    return Outbox(model=model, status="status", lease=LEASE, back_off=outcome.BACK_OFF)


def send_due(kinds: Sequence[Kind[Any]], *, clock: Clock, until: datetime) -> int:
    """Send the due emails of these kinds until none is left or email is unavailable; return their number."""
    with shutdown.graceful_shutdown():
        for kind in kinds:
            kind.expire_leases(at=clock())
        if not any(kind.claimable(at=clock()).exists() for kind in kinds):
            return 0
        dispatcher = UrgentDispatcher(kinds=kinds, clock=clock, until=until)
        try:
            dispatcher.run()
        finally:
            dispatcher.close()
        return dispatcher.sent


@dataclass(slots=True, eq=False)
class OutgoingEmail(Generic[Mail]):
    """A claimed email, and the throttle's slot that it takes up; None without a throttle."""

    mail: Mail
    kind: Kind[Any]
    lane: Lane
    envelope: Envelope | None = None
    places: throttle.Slots | None = None

    def send(self, channel: EmailChannel) -> Answer:
        """Send it; runs in a thread. Return the provider's id or the rejection; raise any other answer."""
        assert self.envelope is not None  # noqa: S101 - built before it is handed out
        try:
            return channel.send(self.envelope)
        except Rejected as reason:
            return reason
        except ConnectionRefused as reason:
            if self.lane.has_other_connections:
                raise ConnectionEnds(str(reason)) from reason
            raise


@dataclass
class UrgentDispatcher:
    """Claims emails of some kinds, hands them to the threads of its lane and settles them."""

    kinds: Sequence[Kind[Any]]
    clock: Clock
    until: datetime
    lane: Lane = field(default_factory=lambda: open_lane(Channel.EMAIL, is_urgent=True))
    sent: int = 0
    # How many emails are claimed and not settled; and the jobs of those that can be settled.
    in_hand: int = 0
    answered: list[Job[EmailChannel]] = field(default_factory=list)
    # By `time.monotonic`: none is claimed before, as the throttle has no slot or the server refused a connection.
    resumes_at: float = 0.0
    is_stopped: bool = False

    def run(self) -> None:
        """Send until nothing is due. If the database is lost, try again as long as a lease may hold."""
        while True:
            try:
                if not self.step():
                    return
            except outcome.DATABASE_LOST:
                if connection.in_atomic_block or not self.in_hand or self.clock() >= self.until + LEASE:
                    raise
                log.warning("the database connection is lost; trying again", exc_info=True)
                if not connection.is_usable():
                    connection.close()
                time.sleep(outcome.DATABASE_RETRY_PAUSE)

    def step(self) -> bool:
        """Claim, hand out and settle once. Return False if nothing is left to do."""
        is_due = goes_on = self.lane.renew_share() and self.may_go_on()
        while is_due and self.has_room():
            is_due = self.begin_next()
        if not goes_on:
            self.withdraw()
        if not is_due and not self.in_hand:
            return False
        self.answered += self.lane.pool.wait_for_answers(timeout=WAIT_INTERVAL)
        self.settle_answers()
        return True

    def may_go_on(self) -> bool:
        return (
            not self.is_stopped
            and not shutdown.is_requested()
            and self.clock() < self.until
            and Channel.EMAIL not in ChannelOutage.unavailable_channels(at=self.clock())
        )

    def has_room(self) -> bool:
        """Return whether an email that is claimed now can begin soon."""
        is_free = self.in_hand < self.lane.pool.concurrency.target
        return is_free and not self.is_stopped and time.monotonic() >= self.resumes_at

    def begin_next(self) -> bool:
        """Claim an email and begin it, those of the first kind first; return False if none can be claimed."""
        at = self.clock()
        claimed = ((kind, mail) for kind in self.kinds if (mail := kind.claim(at=at)) is not None)
        kind, mail = next(claimed, (None, None))
        if kind is None or mail is None:
            return False
        one = OutgoingEmail(mail, kind, self.lane)
        self.in_hand += 1
        try:
            self.in_hand -= not self.begin(one)
        except outcome.DATABASE_LOST:
            self.answered.append(Job(one.send, subject=one, error=Withheld()))
            raise
        return True

    def begin(self, one: OutgoingEmail) -> bool:
        """Check a claimed email, build it, reserve its slot and hand it out; return False if it is settled instead."""
        mail, kind = one.mail, one.kind
        if why := kind.reason_not_to_send(mail, at=self.clock()):
            kind.outbox.settle(mail, status=Status.SKIPPED, detail=why)
            return False
        try:
            one.envelope = kind.build_envelope(mail)
        except outcome.DATABASE_LOST:
            raise
        except Exception:
            log.exception("%s cannot be built", kind.describe(mail))
            kind.outbox.settle(mail, status=Status.FAILED, detail="The email could not be built.", taken_at=None)
            return False
        due = 0.0
        if Channel.EMAIL in throttle.load_limits():
            one.places = throttle.acquire(Channel.EMAIL, wanted=1, at=self.clock())
            due = one.places.due(0) if one.places is not None else 0.0
            if one.places is None or not one.places.count:
                kind.outbox.put_back(mail)
                # If the limit of the day is used up, a later sweep continues.
                self.is_stopped, self.resumes_at = one.places is None, due
                return False
        self.lane.pool.hand_out([Job(one.send, subject=one, due=due)])
        return True

    def withdraw(self) -> None:
        """Let no email begin that waits for a thread or its slot."""
        for job in self.lane.pool.withdraw():
            job.error = Withheld()
            self.answered.append(job)

    def settle_answers(self) -> None:
        """Settle the emails that were answered. One that meets a lost database is settled by the next call."""
        while self.answered:
            job = self.answered.pop()
            try:
                self.settle(job)
            except outcome.DATABASE_LOST:
                self.answered.append(job)
                raise
            self.in_hand -= 1

    def settle(self, job: Job[EmailChannel]) -> None:
        one: OutgoingEmail = job.subject
        went = False
        if isinstance(job.error, Withheld | ConnectionEnds):
            one.kind.outbox.put_back(one.mail)
            self.resumes_at = time.monotonic() + WAIT_INTERVAL
        else:
            assert one.envelope is not None  # noqa: S101 - built before it is handed out
            answer = job.answer if job.error is None else job.error
            went = settle_email(one, answer, at=self.clock())
            self.is_stopped |= not went
        if one.places is not None:
            throttle.release(Channel.EMAIL, places=one.places, unused=0 if went else one.places.count)
        self.sent += went

    def close(self) -> None:
        """Close the connections, and settle the emails that are still in hand after an error."""
        self.withdraw()
        self.lane.close()
        self.answered += self.lane.pool.wait_for_answers(timeout=0)
        with suppress(*outcome.DATABASE_LOST):
            self.settle_answers()


def settle_email(one: OutgoingEmail, answer: Answer, *, at: datetime) -> bool:
    """Record the outcome of one email; return False if no email can be sent now."""
    mail, outbox = one.mail, one.kind.outbox
    if isinstance(answer, str):
        outbox.settle(mail, status=Status.SENT, sent_at=at, detail="", provider_id=replace_unstorable(answer))
        return True
    words = str(answer)
    if isinstance(answer, Rejected):
        outbox.settle(mail, status=Status.FAILED, detail=words)
        assert one.envelope is not None  # noqa: S101 - built before it was sent
        # Without the address the person was erased meanwhile, and nothing may keep it.
        if isinstance(answer, NoSuchMailbox) and outbox.rows.filter(pk=mail.pk, address=one.envelope.to[0]).exists():
            suppression.suppress_dead_mailbox(one.envelope.to[0], at=at)
    elif isinstance(answer, ChannelDown):
        outbox.put_back(mail, detail=words, due_at=at + outcome.OUTAGE_RETRY_AFTER)
        log.warning("urgent emails are not sent, email is unavailable: %s", words)
        ChannelOutage.record_refusal(Channel.EMAIL, why=replace_unstorable(words), at=at)
        return False
    elif isinstance(answer, Unavailable):
        if not outbox.retry(mail, at=at, detail=words):
            outbox.settle(mail, status=Status.FAILED, detail=words)
    else:
        # The server may have received the email before the error.
        log.warning("%s is uncertain", one.kind.describe(mail), exc_info=answer)
        outbox.settle(mail, status=Status.UNCERTAIN, detail=f"{type(answer).__name__}: {words}")
    return True
