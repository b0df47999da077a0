"""Erasing a person: all that is personal is blanked, and the bare rows are kept, so counts stay true (behaviour 3)."""

from datetime import datetime
from typing import Any

from django.apps import apps
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from audiences import intake
from audiences.intake import csv_import
from audiences.models import Customer, JobItem, Notification
from audiences.transactions import retried
from delivery import locks
from delivery.conversations import attachments as conversation_attachments
from delivery.models import (
    Alarm,
    AnswerMail,
    Conversation,
    ConversationPart,
    DeliveryRecord,
    Link,
    Reason,
    Status,
    Visitor,
)
from messaging.models import Message, MessageVersion

ERASED = "Erased"
# What is a bare row's own: it stays as it is.
KEPT = {"id", "role", "created_at", "updated_at", "archived_at", "first_seen_at", "session_count", "checked_at"}
KEPT |= {"unsubscribed_from_emails", "has_hard_bounced", "marked_email_as_spam", "email_is_said"}


@retried
def erase(customer: Customer, *, at: datetime) -> None:
    """Blank everything that says who a customer is, and archive what is left; again is no harm."""
    named_there = in_their_place(customer).values_list("customer_id", flat=True)
    locks.lock_customers_with_rows({customer.pk, *named_there})
    locked = Customer.objects.get(pk=customer.pk)
    names = names_of(locked)
    blank_addresses(locked)
    forget_files(locked)
    intake.archive_customer(locked, at=at)
    DeliveryRecord.objects.filter(customer=locked, status=Status.WAITING).skip(reason=Reason.ARCHIVED)
    DeliveryRecord.objects.filter(customer=locked).update(variables={}, detail="", provider_id="")
    conversations = Conversation.objects.filter(customer=locked)
    ConversationPart.objects.filter(conversation__in=conversations).update(body="", attachments=[], mail_id=None)
    conversations.update(body="", attachments=[])
    answers = AnswerMail.objects.filter(part__conversation__customer=locked)
    answers.filter(status=Status.WAITING).update(status=Status.SKIPPED)
    answers.update(detail="", provider_id="")
    Visitor.objects.filter(customer=locked).delete()
    for rows in (locked.notes, locked.devices, locked.memberships):
        rows.all().delete()
    locked.tags.clear()
    locked.events.update(metadata={})
    Notification.objects.filter(customer=locked).exclude(topic__endswith=".deleted").delete()
    Notification.objects.filter(customer=locked).update(payload=None)
    JobItem.objects.filter(bulk_items_naming(names)).update(data={}, error="")
    csv_import.redact_problems(filter(None, (locked.user_id, locked.email, locked.name, locked.phone)))
    blank_messages_to(locked)
    log_of(locked).update(object_repr=ERASED, change_message="")
    blank(locked, at=at)
    customer.refresh_from_db()


def blank_addresses(customer: Customer) -> None:
    """Blank the addresses their copies went to, and their name where it says why somebody else got none."""
    theirs = DeliveryRecord.objects.filter(customer=customer)
    theirs.filter(address__isnull=False).update(address=None)
    in_their_place(customer).update(detail="")


def in_their_place(customer: Customer) -> QuerySet[DeliveryRecord]:
    """The records of others that say that this customer got the message at the same address."""
    theirs = DeliveryRecord.objects.filter(customer=customer)
    others = DeliveryRecord.objects.filter(reason=Reason.SAME_INBOX, message__in=theirs.values("message"))
    return others.filter(detail=str(customer))


def forget_files(customer: Customer) -> None:
    """Once all is committed, keep no picture and no other file of their conversations."""
    threads = Conversation.objects.filter(customer=customer)
    parts = ConversationPart.objects.filter(conversation__in=threads)
    lists = [*threads.values_list("attachments", flat=True), *parts.values_list("attachments", flat=True)]
    files = [entry for attachments in lists for entry in attachments]
    transaction.on_commit(lambda: conversation_attachments.delete_unused_files(files))


def names_of(customer: Customer) -> dict[str, str | None]:
    """What bulk jobs call them."""
    return {"user_id": customer.user_id, "email": customer.email, "id": str(customer.pk)}


def bulk_items_naming(names: dict[str, str | None]) -> Q:
    """Items of bulk jobs that name the customer in any way."""
    found = Q(pk__in=())
    for field, value in names.items():
        if value:
            found |= Q(data__contains={field: value})
        if value and value.isdecimal() and value.isascii():
            found |= Q(data__contains={field: int(value)})
    return found


def blank_messages_to(customer: Customer) -> None:
    """Blank what was written to this customer alone; what went to an audience holds only variables."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL outbound.erasing = 'on'")
        MessageVersion.objects.filter(message__to_customer=customer).update(subject="", body="", link="")
        cursor.execute("SET LOCAL outbound.erasing = 'off'")
    Link.objects.filter(version__message__to_customer=customer).update(address="")
    letters = Message.objects.filter(to_customer=customer)
    # An alarm names the message it is about, by a title that may name the customer.
    for title in letters.exclude(title="").values_list("title", flat=True).distinct():
        Alarm.objects.filter(description__contains=f"“{title}”").update(description=ERASED)
    letters.update(title=ERASED)


def log_of(customer: Customer) -> QuerySet[Any]:
    """What the console's log says of a customer, of messages to them and of their conversations."""
    apps_of_them = ("audiences", "delivery", "messaging")
    log = apps.get_model("admin", "LogEntry").objects.filter(content_type__app_label__in=apps_of_them)
    messages = [str(pk) for pk in Message.objects.filter(to_customer=customer).values_list("pk", flat=True)]
    threads = [str(pk) for pk in Conversation.objects.filter(customer=customer).values_list("pk", flat=True)]
    with_them = Q(content_type__model="conversation", object_id__in=threads)
    of_them = Q(content_type__model="customer", object_id=str(customer.pk))
    to_them = Q(content_type__model="message", object_id__in=messages)
    return log.filter(of_them | to_them | with_them)


def blank(customer: Customer, *, at: datetime) -> None:
    """Put every column that is not kept back to what it is without anything known."""
    for field in Customer._meta.concrete_fields:
        if field.name not in KEPT:
            setattr(customer, field.attname, None if field.null else field.get_default())
    customer.updated_at = at
    customer.save()
