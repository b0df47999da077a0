"""Answer emails: a customer who has not returned since a teammate answered receives the answer by email, once.

Each answer has one row (`AnswerMail`), created together with it. A worker claims the row and commits before it sends,
and only that worker settles it. An email is never sent again if it is uncertain whether it left. Several emails are
sent at a time, over an urgent share of the channel's connections.
"""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import formataddr

from django.conf import settings
from django.contrib.auth.models import User
from django.core.signing import Signer
from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet, prefetch_related_objects
from django.template.loader import render_to_string

from audiences.intake.attributes.fields import replace_unstorable
from audiences.models import Workspace
from delivery import rendering, shutdown
from delivery.channels import Channel as EmailChannel
from delivery.channels import ChannelDown, ConnectionRefused, Envelope, NoSuchMailbox, Rejected, Unavailable
from delivery.channels.base import Answer
from delivery.matching import direct
from delivery.models import AnswerMail, ChannelOutage, Conversation, ConversationPart, DeliveryRecord, PartType, Status
from delivery.reply_addresses import ReferentKind, reply_address, return_path
from delivery.sending import outcome, suppression, throttle
from delivery.sending.lane import Lane, open_lane
from delivery.sending.outbox import Outbox
from delivery.sending.outcome import Clock
from delivery.sending.outgoing_copy import Withheld
from delivery.sending.pool import ConnectionEnds, Job
from messaging.content import ContentError
from messaging.content.plain_text import html_to_text
from messaging.models import Channel, Sender

log = logging.getLogger(__name__)

OUTBOX = Outbox(model=AnswerMail, status="status", lease=timedelta(minutes=10), back_off=outcome.BACK_OFF)
# In seconds: the longest wait for an answer or a connection, and the pause after a refused connection.
WAIT_INTERVAL = 0.1
MAX_QUOTE_LENGTH = 600
RELATED = ("part__teammate", "part__conversation__customer", "part__conversation__record__message__sender")


def send_due_answer_emails(*, clock: Clock, until: datetime) -> int:
    """Send the due answer emails until none is left or email is unavailable; return their number."""
    with shutdown.graceful_shutdown():
        expire_leases(at=clock())
        if not claimable_answer_emails(at=clock()).exists():
            return 0
        dispatcher = AnswerDispatcher(clock=clock, until=until)
        try:
            dispatcher.run()
        finally:
            dispatcher.close()
        return dispatcher.sent


@dataclass(slots=True, eq=False)
class OutgoingAnswer:
    """A claimed email, and the throttle's slot that it takes up; None without a throttle."""

    mail: AnswerMail
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
class AnswerDispatcher:
    """Claims answer emails, hands them to the threads of its lane and settles them."""

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
                if connection.in_atomic_block or not self.in_hand or self.clock() >= self.until + OUTBOX.lease:
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
        """Claim an email and begin it; return False if none can be claimed."""
        mail = claim_answer_email(at=self.clock())
        if mail is None:
            return False
        one = OutgoingAnswer(mail, self.lane)
        self.in_hand += 1
        try:
            self.in_hand -= not self.begin(one)
        except outcome.DATABASE_LOST:
            self.answered.append(Job(one.send, subject=one, error=Withheld()))
            raise
        return True

    def begin(self, one: OutgoingAnswer) -> bool:
        """Check a claimed email, build it, reserve its slot and hand it out; return False if it is settled instead."""
        mail = one.mail
        prefetch_related_objects([mail], *RELATED)
        if why := reason_not_to_send(mail.part):
            OUTBOX.settle(mail, status=Status.SKIPPED, detail=why)
            return False
        try:
            one.envelope = build_answer_envelope(mail.part)
        except outcome.DATABASE_LOST:
            raise
        except Exception:
            log.exception("the email of answer %s cannot be built", mail.part_id)
            OUTBOX.settle(mail, status=Status.FAILED, detail="The email could not be built.")
            return False
        AnswerMail.objects.filter(pk=mail.pk, claim=mail.claim).update(address=one.envelope.to[0])
        due = 0.0
        if Channel.EMAIL in throttle.load_limits():
            one.places = throttle.acquire(Channel.EMAIL, wanted=1, at=self.clock())
            due = one.places.due(0) if one.places is not None else 0.0
            if one.places is None or not one.places.count:
                OUTBOX.put_back(mail)
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
        one: OutgoingAnswer = job.subject
        went = False
        if isinstance(job.error, Withheld | ConnectionEnds):
            OUTBOX.put_back(one.mail)
            self.resumes_at = time.monotonic() + WAIT_INTERVAL
        else:
            assert one.envelope is not None  # noqa: S101 - built before it is handed out
            answer = job.answer if job.error is None else job.error
            went = settle_answer_email(one.mail, answer, to=one.envelope.to[0], at=self.clock())
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


def claimable_answer_emails(*, at: datetime) -> QuerySet[AnswerMail]:
    """Return the due emails without those that follow another one of their conversation that is being sent.

    The answers of one conversation are sent one after the other, so that they arrive in their order.
    """
    in_flight = AnswerMail.objects.filter(status=Status.SENDING, part__conversation=OuterRef("part__conversation"))
    return AnswerMail.objects.due(at).filter(~Exists(in_flight))


def claim_answer_email(*, at: datetime) -> AnswerMail | None:
    """Claim one due email and commit; return None if no other can be sent now."""
    taken = OUTBOX.claim(claimable_answer_emails(at=at), at=at, limit=1, taken_at=at)
    return taken[0] if taken else None


def reason_not_to_send(part: ConversationPart) -> str:
    """Return why this answer needs no email, as a text for staff; "" if it does."""
    conversation = part.conversation
    customer = conversation.customer
    if conversation.read:
        return "The customer has read it in the messenger."
    if customer.last_seen_at is not None and customer.last_seen_at >= part.created_at:
        return "The customer has visited since."
    # Unsubscribed customers still receive answers: they wrote to us.
    reason = direct.unreachable_reason(customer, channel=Channel.EMAIL)
    return direct.UNREACHABLE_ERRORS[reason].format(customer=customer) if reason else ""


def settle_answer_email(mail: AnswerMail, answer: Answer, *, to: str, at: datetime) -> bool:
    """Record the outcome of one email; return False if no email can be sent now."""
    if isinstance(answer, str):
        OUTBOX.settle(mail, status=Status.SENT, sent_at=at, detail="", provider_id=replace_unstorable(answer))
        return True
    words = str(answer)
    if isinstance(answer, Rejected):
        OUTBOX.settle(mail, status=Status.FAILED, detail=words)
        if isinstance(answer, NoSuchMailbox):
            suppression.suppress_dead_mailbox(to, at=at)
    elif isinstance(answer, ChannelDown):
        OUTBOX.put_back(mail, detail=words, due_at=at + outcome.OUTAGE_RETRY_AFTER)
        log.warning("answer emails are not sent, email is unavailable: %s", words)
        ChannelOutage.record_refusal(Channel.EMAIL, why=replace_unstorable(words), at=at)
        return False
    elif isinstance(answer, Unavailable):
        if not OUTBOX.retry(mail, at=at, detail=words):
            OUTBOX.settle(mail, status=Status.FAILED, detail=words)
    else:
        # The server may have received the email before the error.
        log.warning("email of answer %s is uncertain", mail.part_id, exc_info=answer)
        OUTBOX.settle(mail, status=Status.UNCERTAIN, detail=f"{type(answer).__name__}: {words}")
    return True


def expire_leases(*, at: datetime) -> int:
    """Mark emails as uncertain whose worker never settled them; return their number."""
    return OUTBOX.expired(at).update(
        status=Status.UNCERTAIN, claim=None, leased_until=None, detail="The worker stopped while sending."
    )


def build_answer_envelope(part: ConversationPart) -> Envelope:
    """Return an answer as an email from its author, with the customer's question quoted below."""
    conversation, workspace = part.conversation, Workspace.current()
    author, (name, address, reply_to) = teammate_display_name(part.teammate, workspace), answer_sender(part, workspace)
    about = {
        "part": part,
        "body": rendering.absolute_image_urls(part.body),
        "author": author,
        "workspace": workspace,
        "question": quoted_question(part),
    }
    root, began_with = thread_message_id(conversation), conversation.record
    if began_with is not None and began_with.message.channel == Channel.EMAIL:
        root = rendering.message_id(began_with.pk)
    return Envelope(
        to=(conversation.customer.email or "",),
        subject=answer_subject(conversation, workspace),
        html=render_to_string("delivery/answer.html", about),
        text=render_to_string("delivery/answer.txt", {**about, "text": html_to_text(part.body)}),
        sender=formataddr((name, address)),
        reply_to=reply_address(conversation) or reply_to,
        return_path=return_path(ReferentKind.ANSWER, part.pk),
        message_id=answer_message_id(part),
        headers={"In-Reply-To": root, "References": root},
    )


def answer_sender(part: ConversationPart, workspace: Workspace) -> tuple[str, str, str]:
    """Return name, address and reply address of the sender: the teammate's, else the message's, else a shared one."""
    record = part.conversation.record
    own = Sender.objects.filter(teammate=part.teammate).order_by("pk").first() if part.teammate else None
    if own is not None:
        return own.name, own.email, own.reply_to or own.email
    found = record.message.sender if record is not None else None
    found = found or Sender.objects.filter(users=None).order_by("pk").first()
    name = teammate_display_name(part.teammate, workspace)
    if found is None:
        return name, settings.DEFAULT_FROM_EMAIL, settings.DEFAULT_FROM_EMAIL
    return name, found.email, found.reply_to or found.email


def teammate_display_name(teammate: User | None, workspace: Workspace) -> str:
    return (teammate.get_full_name() if teammate else "") or workspace.name


def answer_subject(conversation: Conversation, workspace: Workspace) -> str:
    """Return the subject, the same for all answers in a conversation, so that mail programs group them."""
    record = conversation.record
    if record is not None and (written := rendered_subject(record)):
        return f"Re: {written}"
    return f"Your conversation with {workspace.name}"


def rendered_subject(record: DeliveryRecord) -> str:
    """Return the subject of a message as the customer received it; "" if it has none."""
    try:
        rendered = rendering.render_sent_copy(record)
    except ContentError:
        return ""
    return " ".join(rendered.subject.split()) if rendered else ""


def quoted_question(part: ConversationPart) -> str:
    """Return the customer's last text before this answer, in plain text and truncated; "" if there is none."""
    conversation = part.conversation
    asked = conversation.parts.filter(part_type=PartType.COMMENT, by_customer=True, created_at__lte=part.created_at)
    newest = asked.order_by("-created_at", "-pk").values_list("body", flat=True).first()
    text = html_to_text(newest if newest is not None else conversation.body).strip()
    return text if len(text) <= MAX_QUOTE_LENGTH else f"{text[:MAX_QUOTE_LENGTH].rstrip()}…"


def answer_message_id(part: ConversationPart) -> str:
    """Return the Message-ID of an answer's email: the same at every attempt, and signed."""
    return signed_message_id("answer", part.pk)


def thread_message_id(conversation: Conversation) -> str:
    """Return the Message-ID that all emails of a conversation refer to, so that mail programs group them."""
    return signed_message_id("conversation", conversation.pk)


def signed_message_id(kind: str, pk: int) -> str:
    signature = Signer(salt="message-id").signature(f"{kind}.{pk}")[:16]
    return f"<{kind}.{pk}.{signature.replace('_', '-')}@{settings.MESSAGE_ID_DOMAIN}>"
