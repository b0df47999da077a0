"""Export of all data about one customer: a JSON file, or a zip with the files of their conversations."""

import json
from collections.abc import Iterator
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile

from django.core.files.storage import default_storage
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model

from audiences.models import (
    ConfirmationMail,
    Customer,
    CustomerTag,
    Device,
    Event,
    EventSummary,
    ImportLine,
    JobItem,
    Membership,
    Note,
    Notification,
    TopicOptOut,
)
from delivery import rendering
from delivery.conversations import attachments as conversation_attachments
from delivery.customers.erase import bulk_items_of, identifiers_of, log_entries_of, own_addresses
from delivery.models import (
    AnswerMail,
    Conversation,
    ConversationPart,
    DeliveryRecord,
    DeviceCopy,
    Hit,
    Link,
    Visitor,
)
from messaging import content
from messaging.models import Message, MessageVersion

MAX_BYTES_IN_MEMORY = 2**20
CHUNK_SIZE = 500
# Each table with rows about a customer: its name in the export, and the lookup from its rows to the customer.
SECTIONS: dict[type[Model], tuple[str, str]] = {
    Customer: ("facts", "pk"),
    Membership: ("companies", "customer"),
    CustomerTag: ("tags", "customer"),
    TopicOptOut: ("topics_opted_out_of", "customer"),
    ConfirmationMail: ("confirmations_of_addresses", "customer"),
    Device: ("devices", "customer"),
    Visitor: ("visitors", "customer"),
    Event: ("events", "customer"),
    EventSummary: ("event_summaries", "customer"),
    Note: ("notes", "customer"),
    ImportLine: ("changed_by_imports", "customer"),
    DeliveryRecord: ("messages", "customer"),
    Hit: ("opens_and_clicks", "record__customer"),
    DeviceCopy: ("pushes_by_device", "record__customer"),
    Message: ("messages_to_them_alone", "to_customer"),
    MessageVersion: ("texts_to_them_alone", "message__to_customer"),
    Link: ("links_to_them_alone", "version__message__to_customer"),
    Conversation: ("conversations", "customer"),
    ConversationPart: ("said_in_conversations", "conversation__customer"),
    AnswerMail: ("answers_by_email", "part__conversation__customer"),
    Notification: ("told_to_subscribers", "customer"),
}
# Names of related objects, which the export shows beside their keys.
RELATED_NAMES: dict[type[Model], tuple[str, ...]] = {
    Membership: ("company__name", "company__company_id"),
    CustomerTag: ("tag__name",),
    TopicOptOut: ("topic__name",),
    DeliveryRecord: ("message__title", "message__channel", "company__name"),
    Hit: ("link__address",),
    DeviceCopy: ("device__platform",),
}
# Used by workers to coordinate; not about the customer.
INTERNAL_FIELDS = {"address_hash", "claim", "leased_until", "ticket"}


def export(customer: Customer, *, at: datetime) -> tuple[IO[bytes], str]:
    """Write the export to a file; return the open file and its extension."""
    out: IO[bytes] = SpooledTemporaryFile(max_size=MAX_BYTES_IN_MEMORY)  # noqa: SIM115 - the caller closes it
    files = dict(conversation_files(customer))
    if not files:
        out.writelines(json_chunks(customer, at=at))
    else:
        with ZipFile(out, "w", ZIP_DEFLATED) as bundle:
            with bundle.open("customer.json", "w", force_zip64=True) as page:
                for line in json_chunks(customer, at=at):
                    page.write(line)
            for path, name in files.items():
                with default_storage.open(path) as stored, bundle.open(f"files/{name}", "w", force_zip64=True) as copy:
                    for chunk in stored.chunks():
                        copy.write(chunk)
    out.seek(0)
    return out, "zip" if files else "json"


def json_chunks(customer: Customer, *, at: datetime) -> Iterator[bytes]:
    """Yield the JSON row by row: a customer may have a million events."""
    yield f'{{"customer": {customer.pk}, "as_of": {to_json(at)}'.encode()
    for name, rows in sections(customer):
        yield f',\n"{name}": ['.encode()
        for number, row in enumerate(rows):
            yield f"{',' if number else ''}\n{to_json(row)}".encode()
        yield b"]"
    yield b"}\n"


def to_json(value: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)


def sections(customer: Customer) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    for model, (name, way) in SECTIONS.items():
        rows = rows_of(model, way, customer) if model is not DeliveryRecord else message_rows(customer)
        yield name, rows
    yield (
        "sent_in_bulk_and_refused",
        iterate_rows(JobItem.objects.filter(bulk_items_of(identifiers_of(customer))).values()),
    )
    entries = log_entries_of(customer, own_addresses(customer))
    yield "log", iterate_rows(entries.values("action_time", "object_repr", "change_message"))


def rows_of(model: type[Model], way: str, customer: Customer) -> Iterator[dict[str, Any]]:
    columns = [field.attname for field in model._meta.concrete_fields if field.name not in INTERNAL_FIELDS]
    rows = model.objects.filter(**{way: customer.pk}).order_by("pk")  # type: ignore[attr-defined]
    return iterate_rows(rows.values(*columns, *RELATED_NAMES.get(model, ())))


def iterate_rows(rows: Any) -> Iterator[dict[str, Any]]:
    yield from rows.iterator(chunk_size=CHUNK_SIZE)


def message_rows(customer: Customer) -> Iterator[dict[str, Any]]:
    """Yield the customer's delivery records with the copies as they received them."""
    related = ("message", "version", "company", "customer")
    records = DeliveryRecord.objects.filter(customer=customer).select_related(*related).order_by("pk")
    rows = rows_of(DeliveryRecord, "customer", customer)
    for record, row in zip(records.iterator(chunk_size=CHUNK_SIZE), rows, strict=True):
        yield {**row, "as_it_read": rendered_copy(record)}


def rendered_copy(record: DeliveryRecord) -> dict[str, str] | str:
    """Return a copy as the customer received it, or the reason why it cannot be rendered."""
    try:
        copy = rendering.render_sent_copy(record)
    except content.ContentError as no:
        return str(no)
    return {"subject": copy.subject, "text": copy.text, "html": copy.html} if copy else "Nothing was sent yet."


def conversation_files(customer: Customer) -> Iterator[tuple[str, str]]:
    """Yield the storage paths of the files in a customer's conversations, with unique names for the zip."""
    threads = Conversation.objects.filter(customer=customer).values_list("attachments", flat=True)
    parts = ConversationPart.objects.filter(conversation__customer=customer).values_list("attachments", flat=True)
    entries = [entry for attachments in (*threads, *parts) for entry in attachments]
    for number, entry in enumerate(entries, start=1):
        path = conversation_attachments.attachment_storage_path(entry)
        if path and default_storage.exists(path):
            yield path, f"{number}-{conversation_attachments.safe_file_name(str(entry.get('name') or 'file'))}"
