"""Threads: replies, notes, assignment and state of conversations between customers and the team (behaviour 3).

The inbox, the messenger, inbound emails and the API all use these functions. Each one locks the conversation, adds one
part and writes its webhook notification in the same transaction. A repeated call with the same `ticket` (an idempotency
key) returns the existing part.
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
from messaging.models import Channel

Attachments = Sequence[dict[str, Any]]


def open_conversations(records: Iterable[DeliveryRecord], *, at: datetime) -> list[Conversation]:
    """Create the conversations that these messages start; they appear in the inbox at the first reply."""
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


def conversation_of_record(record: DeliveryRecord, *, at: datetime) -> Conversation:
    """Return the conversation of a message; an email's is created at its first reply. The caller locks the customer."""
    found, _ = Conversation.objects.select_related("customer", "record").get_or_create(
        record=record,
        defaults={"customer_id": record.customer_id, "created_at": record.sent_at or at, "updated_at": at},
    )
    return found


@retried
def open_by_customer(
    customer: Customer, *, body: str, at: datetime, attachments: Attachments = (), ticket: UUID | None = None
) -> Conversation:
    """Create a conversation with a customer's plain text; it appears in the inbox at once."""
    # Locks the customer's row, so that repeated requests wait for each other.
    Customer.objects.filter(pk=customer.pk).update(last_heard_from_at=at)
    if ticket and (existing := Conversation.objects.filter(ticket=ticket).first()):
        return existing
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
    may_be_quoted: str = "",
    attachments: Attachments = (),
    mail_id: str | None = None,
    ticket: UUID | None = None,
) -> ConversationPart:
    """Add a customer's plain text; a closed or snoozed conversation opens again and waits for an answer.

    `mail_id` is the Message-ID of a reply by email; there is one reply per email. `may_be_quoted` is the end of its
    text that pages fold.
    """
    found = lock_conversation(conversation)
    if (existing := part_with_ticket(ticket)) is not None:
        return existing
    if found.record_id:
        record = DeliveryRecord.objects.filter(pk=found.record_id)
        record.filter(replied_at=None).update(replied_at=at)
        # The messenger may reply before it reports the open, and reports none for a conversation that is read.
        record.filter(opened_at=None, message__channel=Channel.IN_APP).update(opened_at=at)
    Customer.objects.filter(pk=found.customer_id).update(last_heard_from_at=at)
    update_conversation(
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
    shown, folded = paragraphs_html(body), paragraphs_html(may_be_quoted)
    return add_part(
        found,
        PartType.COMMENT,
        at=at,
        topic=Topic.CONVERSATION_USER_REPLIED,
        by_customer=True,
        body=shown + folded,
        fold_position=len(shown) if folded else None,
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
    """Add a teammate's answer, in HTML that is sanitised or in plain text.

    A customer who does not return within the workspace's `answer_by_email_after` minutes receives it by email.
    """
    found = lock_conversation(conversation)
    if (existing := part_with_ticket(ticket)) is not None:
        return existing
    Customer.objects.filter(pk=found.customer_id).update(last_contacted_at=at)
    update_conversation(conversation, read=False, waiting_since=None, inbox_at=at, unseen=False, updated_at=at)
    part = add_part(
        found,
        PartType.COMMENT,
        at=at,
        topic=Topic.CONVERSATION_ADMIN_REPLIED,
        teammate=teammate,
        body=to_html(body),
        attachments=list(attachments),
        ticket=ticket,
    )
    minutes = Workspace.current().answer_by_email_after
    AnswerMail.objects.create(part=part, due_at=at + timedelta(minutes=minutes))
    return part


@retried
def add_note(
    conversation: Conversation, *, teammate: User | None, body: str, at: datetime, ticket: UUID | None = None
) -> ConversationPart:
    """Add a note that only the team sees; `teammate` is None if the system wrote it."""
    found = lock_conversation(conversation)
    if (existing := part_with_ticket(ticket)) is not None:
        return existing
    update_conversation(conversation, updated_at=at)
    topic = Topic.CONVERSATION_ADMIN_NOTED
    return add_part(found, PartType.NOTE, at=at, topic=topic, teammate=teammate, body=to_html(body), ticket=ticket)


@retried
def assign(
    conversation: Conversation, *, to: User | None, teammate: User | None, at: datetime, body: str = ""
) -> ConversationPart:
    """Assign the conversation to a teammate, or unassign it (`to` is None)."""
    found = lock_conversation(conversation)
    update_conversation(conversation, assignee=to, updated_at=at)
    return add_part(
        found,
        PartType.ASSIGNMENT,
        at=at,
        topic=Topic.CONVERSATION_ADMIN_ASSIGNED,
        teammate=teammate,
        assigned_to=to,
        body=to_html(body),
    )


@retried
def reopen(conversation: Conversation, *, teammate: User | None, at: datetime, body: str = "") -> ConversationPart:
    found = lock_conversation(conversation)
    update_conversation(conversation, state="open", snoozed_until=None, updated_at=at)
    topic = Topic.CONVERSATION_ADMIN_OPENED
    return add_part(found, PartType.OPEN, at=at, topic=topic, teammate=teammate, body=to_html(body))


@retried
def close(conversation: Conversation, *, teammate: User | None, at: datetime, body: str = "") -> ConversationPart:
    """Close the conversation until the customer writes again."""
    found = lock_conversation(conversation)
    update_conversation(conversation, state="closed", snoozed_until=None, waiting_since=None, updated_at=at)
    topic = Topic.CONVERSATION_ADMIN_CLOSED
    return add_part(found, PartType.CLOSE, at=at, topic=topic, teammate=teammate, body=to_html(body))


@retried
def snooze(conversation: Conversation, *, until: datetime, teammate: User | None, at: datetime) -> ConversationPart:
    """Hide the conversation until a moment, or until the customer writes."""
    found = lock_conversation(conversation)
    update_conversation(conversation, state="snoozed", snoozed_until=until, updated_at=at)
    topic = Topic.CONVERSATION_ADMIN_SNOOZED
    return add_part(found, PartType.SNOOZED, at=at, topic=topic, teammate=teammate)


def wake_snoozed(*, at: datetime) -> int:
    """Reopen the conversations whose snooze has ended; return their number."""
    ended = list(Conversation.objects.to_wake(at))
    for conversation in ended:
        wake(conversation, at=at)
    return len(ended)


@retried
def wake(conversation: Conversation, *, at: datetime) -> None:
    """Reopen a snoozed conversation, unless a teammate has extended its snooze meanwhile."""
    found = lock_conversation(conversation)
    if found.state == "snoozed" and found.snoozed_until and found.snoozed_until <= at:
        reopen(conversation, teammate=None, at=at)
        update_conversation(conversation, inbox_at=Case(When(inbox_at__isnull=False, then=at)), unseen=True)


def mark_seen(conversation: Conversation) -> None:
    """Mark the newest part as seen by the team."""
    Conversation.objects.filter(pk=conversation.pk, unseen=True).update(unseen=False)


@retried
def mark_read(conversation: Conversation, *, version: str = "") -> bool:
    """Mark a conversation as read by the customer; return False if it has changed since the `version` they read."""
    now = lock_conversation(conversation)
    if version and version != now.updated_at.isoformat():
        return now.read
    update_conversation(conversation, read=True)
    return True


def to_html(written: str) -> str:
    """Return staff's text as HTML: HTML is sanitised, plain text is split into paragraphs."""
    return sanitise(written) if "<" in written and ">" in written else paragraphs_html(written)


def part_with_ticket(ticket: UUID | None) -> ConversationPart | None:
    return ConversationPart.objects.filter(ticket=ticket).first() if ticket else None


def lock_conversation(conversation: Conversation) -> Conversation:
    """Lock the customer's row, then the conversation's, until the transaction ends; return the current conversation."""
    locks.lock_customers_of(Conversation.objects.filter(pk=conversation.pk))
    return (
        Conversation.objects.select_for_update(no_key=True, of=("self",))
        .select_related("customer")
        .get(pk=conversation.pk)
    )


def update_conversation(conversation: Conversation, **facts: Any) -> None:
    """Update the row, and the caller's object with it."""
    Conversation.objects.filter(pk=conversation.pk).update(**facts)
    conversation.refresh_from_db(fields=[*facts])


def add_part(
    conversation: Conversation,
    part_type: PartType,
    *,
    at: datetime,
    topic: Topic,
    body: str = "",
    attachments: Attachments = (),
    **facts: Any,
) -> ConversationPart:
    """Add one part, and write its webhook notification."""
    part = ConversationPart.objects.create(
        conversation=conversation,
        part_type=part_type,
        body=body,
        attachments=list(attachments),
        created_at=at,
        **facts,
    )
    announce(topic, customer=conversation.customer, at=at, conversation=conversation.pk, part=part.pk)
    return part
