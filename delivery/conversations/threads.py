"""Conversations: what a customer and the team say to each other after a message reached them (behaviour 3).

The inbox, the messenger, mail and the API all say it here. Each function locks the conversation, adds one part,
and announces it in the same transaction.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Case, F, When
from django.db.models.functions import Coalesce

from audiences.models import Customer, Topic, Workspace
from audiences.transactions import retried
from audiences.webhook_outbox import announce
from delivery import locks
from delivery.models import AnswerMail, Conversation, ConversationPart, DeliveryRecord, PartType
from messaging.content import paragraphs_html, sanitise

Attachments = Sequence[dict[str, Any]]


def begin(records: Iterable[DeliveryRecord], *, at: datetime) -> list[Conversation]:
    """Open the conversation each of these messages starts; it stays out of the inbox until somebody replies."""
    records = list(records)
    opened = Conversation.objects.bulk_create(
        [
            Conversation(customer_id=record.customer_id, record_id=record.pk, created_at=at, updated_at=at)
            for record in records
        ]
    )
    for record, conversation in zip(records, opened, strict=True):
        if record.message.to_customer_id:
            topic = Topic.CONVERSATION_ADMIN_SINGLE_CREATED
            announce(topic, customer=conversation.customer, at=at, conversation=conversation.pk)
    return opened


def begun_by(record: DeliveryRecord, *, at: datetime) -> Conversation:
    """The conversation a message began, which for an email begins with its first answer; the customer is locked."""
    found, _ = Conversation.objects.select_related("customer", "record").get_or_create(
        record=record,
        defaults={"customer_id": record.customer_id, "created_at": record.sent_at or at, "updated_at": at},
    )
    return found


@retried
def open_by_customer(
    customer: Customer, *, body: str, at: datetime, attachments: Attachments = (), ticket: UUID | None = None
) -> Conversation:
    """Open a conversation with what a customer wrote, in plain text; it is in the inbox at once.

    Of one `ticket` there is one conversation: who asks again is given the first.
    """
    # By the customer's row those wait for each other who ask twice at once.
    Customer.objects.filter(pk=customer.pk).update(last_heard_from_at=at)
    if ticket and (begun := Conversation.objects.filter(ticket=ticket).first()):
        return begun
    conversation = Conversation.objects.create(
        customer=customer,
        body=paragraphs_html(body),
        attachments=list(attachments),
        created_at=at,
        updated_at=at,
        waiting_since=at,
        first_reply_at=at,
        inbox_at=at,
        unseen=True,
        read=True,
        ticket=ticket,
    )
    announce(Topic.CONVERSATION_USER_CREATED, customer=customer, at=at, conversation=conversation.pk)
    return conversation


@retried
def reply_by_customer(
    conversation: Conversation,
    *,
    body: str,
    at: datetime,
    attachments: Attachments = (),
    mail_id: str | None = None,
    ticket: UUID | None = None,
) -> ConversationPart:
    """Add what the customer wrote, in plain text: it waits for an answer, open again if it was not.

    `mail_id` is the Message-ID of the mail it came by, if it came by one; of one mail there is one reply. Of one
    `ticket`, too: who asks again is given the first.
    """
    found = lock(conversation)
    if ticket and (said := ConversationPart.objects.filter(ticket=ticket).first()):
        return said
    if found.record_id:
        DeliveryRecord.objects.filter(pk=found.record_id, replied_at=None).update(replied_at=at)
    Customer.objects.filter(pk=found.customer_id).update(last_heard_from_at=at)
    change(
        conversation,
        state="open",
        snoozed_until=None,
        read=True,
        waiting_since=Coalesce(F("waiting_since"), at),
        first_reply_at=Coalesce(F("first_reply_at"), at),
        inbox_at=at,
        unseen=True,
        updated_at=at,
    )
    return add(
        found,
        PartType.COMMENT,
        at=at,
        topic=Topic.CONVERSATION_USER_REPLIED,
        by_customer=True,
        body=paragraphs_html(body),
        attachments=list(attachments),
        mail_id=mail_id,
        ticket=ticket,
    )


@retried
def reply_by_teammate(
    conversation: Conversation,
    *,
    teammate: User,
    body: str,
    at: datetime,
    attachments: Attachments = (),
    ticket: UUID | None = None,
) -> ConversationPart:
    """Add a teammate's answer, in HTML of which what may stay stays: the customer has it to read.

    Who is not back within the workspace's minutes gets it by email (forwarding). What comes with the `ticket` of
    something said already is not said again.
    """
    found = lock(conversation)
    if (said := said_with(ticket)) is not None:
        return said
    Customer.objects.filter(pk=found.customer_id).update(last_contacted_at=at)
    change(conversation, read=False, waiting_since=None, inbox_at=at, unseen=False, updated_at=at)
    part = add(
        found,
        PartType.COMMENT,
        at=at,
        topic=Topic.CONVERSATION_ADMIN_REPLIED,
        teammate=teammate,
        body=as_html(body),
        attachments=list(attachments),
        ticket=ticket,
    )
    minutes = Workspace.current().answer_by_email_after
    AnswerMail.objects.create(part=part, due_at=at + timedelta(minutes=minutes))
    return part


@retried
def note(
    conversation: Conversation, *, teammate: User | None, body: str, at: datetime, ticket: UUID | None = None
) -> ConversationPart:
    """Add what only the team sees (`teammate` None: nobody wrote it); what comes with the `ticket` of something said
    already is not said again.
    """
    found = lock(conversation)
    if (said := said_with(ticket)) is not None:
        return said
    change(conversation, updated_at=at)
    topic = Topic.CONVERSATION_ADMIN_NOTED
    return add(found, PartType.NOTE, at=at, topic=topic, teammate=teammate, body=as_html(body), ticket=ticket)


@retried
def assign(
    conversation: Conversation, *, to: User | None, teammate: User | None, at: datetime, body: str = ""
) -> ConversationPart:
    """Hand it to a teammate, or back to nobody (`to` None)."""
    found = lock(conversation)
    change(conversation, assignee=to, updated_at=at)
    return add(
        found,
        PartType.ASSIGNMENT,
        at=at,
        topic=Topic.CONVERSATION_ADMIN_ASSIGNED,
        teammate=teammate,
        assigned_to=to,
        body=as_html(body),
    )


@retried
def reopen(conversation: Conversation, *, teammate: User | None, at: datetime, body: str = "") -> ConversationPart:
    """Have it open, from closed or snoozed."""
    found = lock(conversation)
    change(conversation, state="open", snoozed_until=None, updated_at=at)
    topic = Topic.CONVERSATION_ADMIN_OPENED
    return add(found, PartType.OPEN, at=at, topic=topic, teammate=teammate, body=as_html(body))


@retried
def close(conversation: Conversation, *, teammate: User | None, at: datetime, body: str = "") -> ConversationPart:
    """Be done with it until the customer writes again."""
    found = lock(conversation)
    change(conversation, state="closed", snoozed_until=None, waiting_since=None, updated_at=at)
    topic = Topic.CONVERSATION_ADMIN_CLOSED
    return add(found, PartType.CLOSE, at=at, topic=topic, teammate=teammate, body=as_html(body))


@retried
def snooze(conversation: Conversation, *, until: datetime, teammate: User | None, at: datetime) -> ConversationPart:
    """Put it away until a moment, or until the customer writes."""
    found = lock(conversation)
    change(conversation, state="snoozed", snoozed_until=until, updated_at=at)
    topic = Topic.CONVERSATION_ADMIN_SNOOZED
    return add(found, PartType.SNOOZED, at=at, topic=topic, teammate=teammate)


def wake_snoozed(*, at: datetime) -> int:
    """Open again those whose snooze is over; returns how many there were."""
    ended = list(Conversation.objects.to_wake(at))
    for conversation in ended:
        wake(conversation, at=at)
    return len(ended)


@retried
def wake(conversation: Conversation, *, at: datetime) -> None:
    """Open it again, unless somebody has put it away for longer meanwhile."""
    found = lock(conversation)
    if found.state == "snoozed" and found.snoozed_until and found.snoozed_until <= at:
        reopen(conversation, teammate=None, at=at)
        change(conversation, inbox_at=Case(When(inbox_at__isnull=False, then=at)), unseen=True)


def seen(conversation: Conversation) -> None:
    """Note that a teammate who answers has looked at what is newest."""
    Conversation.objects.filter(pk=conversation.pk, unseen=True).update(unseen=False)


@retried
def mark_read(conversation: Conversation, *, version: str = "") -> bool:
    """Note that the customer has read what is newest; False where more was said since the version they read."""
    now = lock(conversation)
    if version and version != now.updated_at.isoformat():
        return now.read
    change(conversation, read=True)
    return True


def as_html(written: str) -> str:
    """What staff wrote, as HTML: of what holds a tag what may stay, of plain text its paragraphs."""
    return sanitise(written) if "<" in written and ">" in written else paragraphs_html(written)


def said_with(ticket: UUID | None) -> ConversationPart | None:
    """What was said with this ticket; None where nothing was, or there is no ticket."""
    return ConversationPart.objects.filter(ticket=ticket).first() if ticket else None


def lock(conversation: Conversation) -> Conversation:
    """The conversation as it is now, its customer's row and then its own locked until the transaction ends."""
    locks.lock_customers_of(Conversation.objects.filter(pk=conversation.pk))
    return (
        Conversation.objects.select_for_update(no_key=True, of=("self",))
        .select_related("customer")
        .get(pk=conversation.pk)
    )


def change(conversation: Conversation, **facts: Any) -> None:
    """Write facts to the row, and have the caller's object say the same."""
    Conversation.objects.filter(pk=conversation.pk).update(**facts)
    conversation.refresh_from_db(fields=[*facts])


def add(
    conversation: Conversation,
    part_type: PartType,
    *,
    at: datetime,
    topic: Topic,
    body: str = "",
    attachments: Attachments = (),
    **who: Any,
) -> ConversationPart:
    """Add one part, and announce it."""
    part = ConversationPart.objects.create(
        conversation=conversation,
        part_type=part_type,
        body=body,
        attachments=list(attachments),
        created_at=at,
        **who,
    )
    announce(topic, customer=conversation.customer, at=at, conversation=conversation.pk, part=part.pk)
    return part
