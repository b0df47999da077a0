"""Erasure of a customer: personal data is blanked, the bare rows remain, and counts stay correct (behaviour 3)."""

from datetime import datetime
from itertools import chain
from typing import Any

from django.apps import apps
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet

from audiences import intake
from audiences.intake import csv_import
from audiences.intake.identity_resolution import comparable_address
from audiences.models import ConfirmationMail, Customer, IdempotencyKey, JobItem, Notification, Suppression
from audiences.models.consent import MailStatus
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
from delivery.models.device_copy import settle_begun_pushes
from messaging.models import Autosave, Message, MessageVersion

ERASED = "Erased"
# Fields without personal data, which the bare row keeps.
KEPT_FIELDS = {"id", "role", "created_at", "updated_at", "archived_at", "first_seen_at", "session_count", "checked_at"}
KEPT_FIELDS |= {"unsubscribed_from_emails", "has_hard_bounced", "marked_email_as_spam", "email_is_said"}


@retried
def erase(customer: Customer, *, at: datetime) -> None:
    """Blank everything that identifies a customer, and archive the bare row. Idempotent."""
    others = records_skipped_in_favour_of(customer).values_list("customer_id", flat=True)
    locks.lock_customers_with_rows({customer.pk, *others})
    locked = Customer.objects.get(pk=customer.pk)
    names = identifiers_of(locked)
    # The log entries before the addresses that find them.
    addresses = own_addresses(locked)
    log_entries_of(locked, addresses).update(object_repr=ERASED, change_message="")
    suppressed_entries_of(addresses).update(address=None, detail="")
    erase_confirmations(locked, addresses)
    blank_addresses(locked)
    delete_files_on_commit(locked)
    intake.archive_customer(locked, at=at)
    settle_begun_pushes(DeliveryRecord.objects.filter(customer=locked))
    DeliveryRecord.objects.filter(customer=locked, status=Status.WAITING).skip(reason=Reason.ARCHIVED)
    DeliveryRecord.objects.filter(customer=locked).update(variables={}, judged_values=None, detail="", provider_id="")
    conversations = Conversation.objects.filter(customer=locked)
    ConversationPart.objects.filter(conversation__in=conversations).update(body="", attachments=[], mail_id=None)
    conversations.update(body="", attachments=[])
    answers = AnswerMail.objects.filter(part__conversation__customer=locked)
    answers.filter(status=Status.WAITING).update(status=Status.SKIPPED)
    answers.update(detail="", provider_id="", address="")
    Visitor.objects.filter(customer=locked).delete()
    for rows in (locked.notes, locked.devices, locked.memberships, locked.topic_opt_outs):
        rows.all().delete()
    Autosave.objects.filter(customer=locked).end(at=at)
    locked.tags.clear()
    locked.events.update(metadata={})
    Notification.objects.filter(customer=locked).exclude(topic__endswith=".deleted").delete()
    Notification.objects.filter(customer=locked).update(payload=None)
    IdempotencyKey.objects.forget_person(locked.pk)
    JobItem.objects.filter(bulk_items_of(names)).update(data={}, error="")
    csv_import.erase_effects(locked.pk)
    csv_import.redact_problems(filter(None, (locked.user_id, locked.email, locked.name, locked.phone)))
    blank_messages_to(locked)
    blank_fields(locked, at=at)
    customer.refresh_from_db()


def erase_confirmations(customer: Customer, addresses: list[str]) -> None:
    """Blank the confirmation emails of these addresses. The hash stays, and with it the limit of one email a day."""
    mails = ConfirmationMail.objects.of_address(*addresses) | ConfirmationMail.objects.filter(address__in=addresses)
    mails.filter(status=MailStatus.WAITING).update(status=MailStatus.SKIPPED)
    mails.update(address=None, confirmed_at=None, detail="", provider_id="")
    # Another customer has the address, and the email becomes theirs; what a server wrote may be about this one.
    for mail in customer.confirmation_mails.filter(address__isnull=False):
        others = Customer.objects.exclude(pk=customer.pk).with_address(str(mail.address))
        owner = others.order_by(F("archived_at").desc(nulls_first=True), "pk").first()
        ConfirmationMail.objects.filter(pk=mail.pk).update(customer=owner or customer, detail="")


def suppressed_entries_of(addresses: list[str]) -> QuerySet[Suppression]:
    return Suppression.objects.exclude(address=None).of_address(*addresses)


def own_addresses(customer: Customer) -> list[str]:
    """Return the customer's addresses, also former ones, except those that another customer has."""
    records = DeliveryRecord.objects.filter(customer=customer, address__isnull=False)
    answers = AnswerMail.objects.filter(part__conversation__customer=customer)
    former = (rows.values_list("address", flat=True) for rows in (records, answers, customer.confirmation_mails.all()))
    addresses = set(filter(None, (customer.email, *chain.from_iterable(former))))
    others = Customer.objects.exclude(pk=customer.pk).with_address(*addresses).values_list("email", flat=True)
    shared = {comparable_address(str(email)) for email in others}
    return [address for address in addresses if comparable_address(address) not in shared]


def blank_addresses(customer: Customer) -> None:
    """Blank the customer's addresses in delivery records, and their name in the records of others at that address."""
    records = DeliveryRecord.objects.filter(customer=customer)
    records.filter(address__isnull=False).update(address=None)
    records_skipped_in_favour_of(customer).update(detail="")


def records_skipped_in_favour_of(customer: Customer) -> QuerySet[DeliveryRecord]:
    """Return the records of other customers that name this customer as the recipient at the same address."""
    records = DeliveryRecord.objects.filter(customer=customer)
    others = DeliveryRecord.objects.filter(reason=Reason.SAME_INBOX, message__in=records.values("message"))
    return others.filter(detail=str(customer))


def delete_files_on_commit(customer: Customer) -> None:
    """Delete the files of the customer's conversations after the commit."""
    threads = Conversation.objects.filter(customer=customer)
    parts = ConversationPart.objects.filter(conversation__in=threads)
    lists = [*threads.values_list("attachments", flat=True), *parts.values_list("attachments", flat=True)]
    files = [entry for attachments in lists for entry in attachments]
    transaction.on_commit(lambda: conversation_attachments.delete_unused_files(files))


def identifiers_of(customer: Customer) -> dict[str, str | None]:
    """Return the identifiers by which bulk jobs name a customer."""
    return {"user_id": customer.user_id, "email": customer.email, "id": str(customer.pk)}


def bulk_items_of(names: dict[str, str | None]) -> Q:
    """Return the condition for items of bulk jobs that name a customer by any identifier."""
    found = Q(pk__in=())
    for field, value in names.items():
        if value:
            found |= Q(data__contains={field: value})
        if value and value.isdecimal() and value.isascii():
            found |= Q(data__contains={field: int(value)})
    return found


def blank_messages_to(customer: Customer) -> None:
    """Blank the direct messages to a customer; messages to an audience contain only variables."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL outbound.erasing = 'on'")
        MessageVersion.objects.filter(message__to_customer=customer).update(subject="", body="", link="")
        cursor.execute("SET LOCAL outbound.erasing = 'off'")
    Link.objects.filter(version__message__to_customer=customer).update(address="")
    direct_messages = Message.objects.filter(to_customer=customer)
    # An alarm quotes the title of its message, which may name the customer.
    for title in direct_messages.exclude(title="").values_list("title", flat=True).distinct():
        Alarm.objects.filter(description__contains=f"“{title}”").update(description=ERASED)
    direct_messages.update(title=ERASED)


def log_entries_of(customer: Customer, addresses: list[str]) -> QuerySet[Any]:
    """Return the console's log entries about a customer, their messages and conversations, and their own addresses."""
    app_labels = ("audiences", "delivery", "messaging")
    log = apps.get_model("admin", "LogEntry").objects.filter(content_type__app_label__in=app_labels)
    messages = [str(pk) for pk in Message.objects.filter(to_customer=customer).values_list("pk", flat=True)]
    threads = [str(pk) for pk in Conversation.objects.filter(customer=customer).values_list("pk", flat=True)]
    on_conversations = Q(content_type__model="conversation", object_id__in=threads)
    on_customer = Q(content_type__model="customer", object_id=str(customer.pk))
    on_messages = Q(content_type__model="message", object_id__in=messages)
    entries = [str(pk) for pk in suppressed_entries_of(addresses).values_list("pk", flat=True)]
    on_entries = Q(content_type__model="suppression", object_id__in=entries)
    return log.filter(on_customer | on_messages | on_conversations | on_entries)


def blank_fields(customer: Customer, *, at: datetime) -> None:
    """Reset every field that is not in KEPT_FIELDS to null or its default."""
    for field in Customer._meta.concrete_fields:
        if field.name not in KEPT_FIELDS:
            setattr(customer, field.attname, None if field.null else field.get_default())
    customer.updated_at = at
    customer.save()
