"""Answer emails: a customer who has not returned since a teammate answered receives the answer by email, once.

Each answer has one row (`AnswerMail`), created together with it, which the dispatcher of urgent emails sends.
"""

from datetime import datetime
from email.utils import formataddr

from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef, QuerySet, prefetch_related_objects
from django.template.loader import render_to_string

from audiences.models import Workspace
from delivery import rendering
from delivery.channels import Envelope
from delivery.matching import direct
from delivery.models import AnswerMail, Conversation, ConversationPart, DeliveryRecord, PartType, Status
from delivery.reply_addresses import ReferentKind, reply_address, return_path, signed_message_id
from delivery.sending.outcome import Clock
from delivery.sending.urgent import dispatcher
from messaging.content import ContentError
from messaging.content.plain_text import html_to_text
from messaging.models import Channel, Sender

MAX_QUOTE_LENGTH = 600
RELATED = ("part__teammate", "part__conversation__customer", "part__conversation__record__message__sender")


class AnswerEmails(dispatcher.Kind[AnswerMail]):
    """The emails of teammates' answers."""

    outbox = dispatcher.outbox_of(AnswerMail)

    def claimable(self, *, at: datetime) -> QuerySet[AnswerMail]:
        """Return the due emails without those that follow another one of their conversation that is being sent.

        The answers of one conversation are sent one after the other, so that they arrive in their order.
        """
        in_flight = AnswerMail.objects.filter(status=Status.SENDING, part__conversation=OuterRef("part__conversation"))
        return AnswerMail.objects.due(at).filter(~Exists(in_flight))

    def reason_not_to_send(self, mail: AnswerMail, *, at: datetime) -> str:
        prefetch_related_objects([mail], *RELATED)
        return reason_not_to_send(mail.part)

    def build_envelope(self, mail: AnswerMail) -> Envelope:
        envelope = build_answer_envelope(mail.part)
        AnswerMail.objects.filter(pk=mail.pk, claim=mail.claim).update(address=envelope.to[0])
        return envelope

    def describe(self, mail: AnswerMail) -> str:
        return f"the email of answer {mail.part_id}"


ANSWER_EMAILS = AnswerEmails()


def send_due_answer_emails(*, clock: Clock, until: datetime) -> int:
    """Send the due answer emails until none is left or email is unavailable; return their number."""
    return dispatcher.send_due([ANSWER_EMAILS], clock=clock, until=until)


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
    name = teammate_display_name(part.teammate, workspace)
    found = found or Sender.objects.shared_or_default(name=name)
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
