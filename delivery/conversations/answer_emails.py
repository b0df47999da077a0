"""Answer emails: a customer who has not returned since a teammate answered receives the answer by email, once.

Each answer has one row (`AnswerMail`), created together with it. A worker claims the row and commits before it sends,
and only that worker settles it. An email is never sent again if it is uncertain whether it left. Threads send several
emails at a time, without a database connection.
"""

import logging
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import formataddr
from types import TracebackType
from typing import Self

from django.conf import settings
from django.contrib.auth.models import User
from django.core.signing import Signer
from django.db.models import Exists, OuterRef, prefetch_related_objects
from django.template.loader import render_to_string

from audiences.intake.attributes.fields import replace_unstorable
from audiences.models import Workspace
from delivery import rendering, shutdown
from delivery.channels import CHANNELS, ChannelDown, Envelope, NoSuchMailbox, Rejected, Unavailable
from delivery.channels import Channel as EmailChannel
from delivery.matching import direct
from delivery.models import AnswerMail, ChannelOutage, Conversation, ConversationPart, DeliveryRecord, PartType, Status
from delivery.reply_addresses import ReferentKind, reply_address, return_path
from delivery.sending import outcome, suppression, throttle
from delivery.sending.outbox import Outbox
from delivery.sending.outcome import Clock
from messaging.content import ContentError
from messaging.content.plain_text import html_to_text
from messaging.models import Channel, Sender

log = logging.getLogger(__name__)

OUTBOX = Outbox(model=AnswerMail, status="status", lease=timedelta(minutes=10), back_off=outcome.BACK_OFF)
# How many emails a worker sends at the same time.
CONNECTIONS = 4
MAX_QUOTE_LENGTH = 600
RELATED = ("part__teammate", "part__conversation__customer", "part__conversation__record__message__sender")


def send_due_answer_emails(*, clock: Clock, until: datetime) -> int:
    """Send the due answer emails until none is left or email is unavailable; return their number."""
    with shutdown.graceful_shutdown(), AnswerDispatcher(clock=clock) as sender:
        expire_leases(at=clock())
        while True:
            while clock() < until and sender.may_begin():
                mail = claim_answer_email(at=clock())
                if mail is None:
                    break
                sender.begin(mail)
            if not sender.in_flight:
                return sender.sent
            sender.settle_answers()


@dataclass(frozen=True, slots=True)
class InFlight:
    """An email that a thread sends, and the throttle's place that it takes up; None without a throttle."""

    mail: AnswerMail
    envelope: Envelope
    places: throttle.Slots | None


@dataclass
class AnswerDispatcher:
    """The threads that send, each by a connection of its own and without the database, and the emails in flight."""

    clock: Clock
    sent: int = 0
    # One at first, and one more with each answer of the server, so that an outage is noticed with one email.
    wanted: int = 1
    is_stopped: bool = False
    in_flight: dict[Future[str], InFlight] = field(default_factory=dict)
    channels: list[EmailChannel] = field(default_factory=list)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(CONNECTIONS, "answer-email"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.threads.shutdown()
        for channel in self.channels:
            channel.close()

    def may_begin(self) -> bool:
        return (
            len(self.in_flight) < min(self.wanted, CONNECTIONS)
            and not self.is_stopped
            and not shutdown.is_requested()
            and Channel.EMAIL not in ChannelOutage.unavailable_channels(at=self.clock())
        )

    def begin(self, mail: AnswerMail) -> None:
        """Check a claimed email, build it, wait for the throttle and hand it to a thread."""
        if why := reason_not_to_send(mail.part):
            OUTBOX.settle(mail, status=Status.SKIPPED, detail=why)
            return
        try:
            envelope = build_answer_envelope(mail.part)
        except Exception:
            log.exception("the email of answer %s cannot be built", mail.part_id)
            OUTBOX.settle(mail, status=Status.FAILED, detail="The email could not be built.")
            return
        AnswerMail.objects.filter(pk=mail.pk, claim=mail.claim).update(address=envelope.to[0])
        places = None
        if Channel.EMAIL in throttle.load_limits():
            places = throttle.acquire(Channel.EMAIL, wanted=1, at=self.clock())
            if places is not None:
                places.wait(0, unless=shutdown.is_requested)
            if places is None or not places.count or shutdown.is_requested():
                if places is not None:
                    throttle.release(Channel.EMAIL, places=places, unused=places.count)
                # The next sweep continues.
                OUTBOX.put_back(mail)
                self.is_stopped = True
                return
        self.in_flight[self.threads.submit(self.send, envelope)] = InFlight(mail, envelope, places)

    def send(self, envelope: Envelope) -> str:
        """Send one email by a free connection; runs in a thread. Return the provider's id."""
        try:
            # Of several threads, each takes another.
            channel = self.channels.pop()
        except IndexError:
            channel = CHANNELS[Channel.EMAIL]()
        try:
            return send_envelope(channel, envelope)
        finally:
            self.channels.append(channel)

    def settle_answers(self) -> None:
        """Settle the emails that were answered, as soon as there is one."""
        done, _ = wait(self.in_flight, return_when=FIRST_COMPLETED)
        for future in done:
            one = self.in_flight.pop(future)
            went = settle_answer_email(one.mail, future, to=one.envelope.to[0], at=self.clock())
            if one.places is not None:
                throttle.release(Channel.EMAIL, places=one.places, unused=0 if went else one.places.count)
            self.sent += went
            self.wanted += went
            self.is_stopped |= not went


def send_envelope(channel: EmailChannel, envelope: Envelope) -> str:
    return channel.send(envelope)


def claim_answer_email(*, at: datetime) -> AnswerMail | None:
    """Claim one due email and commit; return None if no other can be sent now.

    The answers of one conversation are sent one after the other, so that they arrive in their order.
    """
    in_flight = AnswerMail.objects.filter(status=Status.SENDING, part__conversation=OuterRef("part__conversation"))
    taken = OUTBOX.claim(AnswerMail.objects.due(at).filter(~Exists(in_flight)), at=at, limit=1, taken_at=at)
    prefetch_related_objects(taken, *RELATED)
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


def settle_answer_email(mail: AnswerMail, answer: Future[str], *, to: str, at: datetime) -> bool:
    """Record the outcome of one email; return False if no email can be sent now."""
    try:
        provider_id = answer.result()
    except NoSuchMailbox as reason:
        OUTBOX.settle(mail, status=Status.FAILED, detail=str(reason))
        suppression.suppress_dead_mailbox(to, at=at)
    except Rejected as reason:
        OUTBOX.settle(mail, status=Status.FAILED, detail=str(reason))
    except ChannelDown as reason:
        OUTBOX.put_back(mail, detail=str(reason), due_at=at + outcome.OUTAGE_RETRY_AFTER)
        log.warning("answer emails are not sent, email is unavailable: %s", reason)
        ChannelOutage.record_refusal(Channel.EMAIL, why=replace_unstorable(str(reason)), at=at)
        return False
    except Unavailable as reason:
        if not OUTBOX.retry(mail, at=at, detail=str(reason)):
            OUTBOX.settle(mail, status=Status.FAILED, detail=str(reason))
    except Exception as reason:
        # The server may have received the email before the error.
        log.warning("email of answer %s is uncertain", mail.part_id, exc_info=True)
        OUTBOX.settle(mail, status=Status.UNCERTAIN, detail=f"{type(reason).__name__}: {reason}")
    else:
        provider_id = replace_unstorable(provider_id)
        OUTBOX.settle(mail, status=Status.SENT, sent_at=at, detail="", provider_id=provider_id)
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
