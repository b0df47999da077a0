"""All that is kept of one customer, as a file to hand to them: JSON, or a zip of it with the files of conversations."""

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
    Customer,
    CustomerTag,
    Device,
    Event,
    EventSummary,
    JobItem,
    Membership,
    Note,
    Notification,
)
from delivery import rendering
from delivery.conversations import attachments as conversation_attachments
from delivery.customers.erase import bulk_items_naming, log_of, names_of
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

IN_MEMORY = 2**20
AT_ONCE = 500
# Each table with rows of a customer's own: what it is called, and the way from its row to theirs.
SECTIONS: dict[type[Model], tuple[str, str]] = {
    Customer: ("facts", "pk"),
    Membership: ("companies", "customer"),
    CustomerTag: ("tags", "customer"),
    Device: ("devices", "customer"),
    Visitor: ("visitors", "customer"),
    Event: ("events", "customer"),
    EventSummary: ("event_summaries", "customer"),
    Note: ("notes", "customer"),
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
# What a number alone would not tell: the names that go with a row.
NAMES: dict[type[Model], tuple[str, ...]] = {
    Membership: ("company__name", "company__company_id"),
    CustomerTag: ("tag__name",),
    DeliveryRecord: ("message__title", "message__channel", "company__name"),
    Hit: ("link__address",),
    DeviceCopy: ("device__platform",),
}
# How workers keep out of each other's way; nothing of it is about the customer.
OUR_OWN = {"claim", "leased_until", "ticket"}


def export(customer: Customer, *, at: datetime) -> tuple[IO[bytes], str]:
    """Write all of it into a file; return it, open at its beginning, and the ending of its name."""
    out: IO[bytes] = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - whoever asked closes it
    files = dict(kept_files(customer))
    if not files:
        out.writelines(written(customer, at=at))
    else:
        with ZipFile(out, "w", ZIP_DEFLATED) as bundle:
            with bundle.open("customer.json", "w", force_zip64=True) as page:
                for line in written(customer, at=at):
                    page.write(line)
            for path, name in files.items():
                with default_storage.open(path) as kept, bundle.open(f"files/{name}", "w", force_zip64=True) as copy:
                    for chunk in kept.chunks():
                        copy.write(chunk)
    out.seek(0)
    return out, "zip" if files else "json"


def written(customer: Customer, *, at: datetime) -> Iterator[bytes]:
    """The JSON, a row at a time: a customer may have done a million things."""
    yield f'{{"customer": {customer.pk}, "as_of": {as_json(at)}'.encode()
    for name, rows in sections(customer):
        yield f',\n"{name}": ['.encode()
        for number, row in enumerate(rows):
            yield f"{',' if number else ''}\n{as_json(row)}".encode()
        yield b"]"
    yield b"}\n"


def as_json(value: Any) -> str:
    """A value in JSON, as people read it."""
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)


def sections(customer: Customer) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """Each section by name, with its rows."""
    for model, (name, way) in SECTIONS.items():
        rows = rows_of(model, way, customer) if model is not DeliveryRecord else copies_of(customer)
        yield name, rows
    yield "sent_in_bulk_and_refused", plain(JobItem.objects.filter(bulk_items_naming(names_of(customer))).values())
    yield "log", plain(log_of(customer).values("action_time", "object_repr", "change_message"))


def rows_of(model: type[Model], way: str, customer: Customer) -> Iterator[dict[str, Any]]:
    """The rows of one table, whole."""
    columns = [field.attname for field in model._meta.concrete_fields if field.name not in OUR_OWN]
    rows = model.objects.filter(**{way: customer.pk}).order_by("pk")  # type: ignore[attr-defined]
    return plain(rows.values(*columns, *NAMES.get(model, ())))


def plain(rows: Any) -> Iterator[dict[str, Any]]:
    """Rows as they come, a few at a time."""
    yield from rows.iterator(chunk_size=AT_ONCE)


def copies_of(customer: Customer) -> Iterator[dict[str, Any]]:
    """What they were sent, each as it read to them."""
    related = ("message", "version", "company", "customer")
    records = DeliveryRecord.objects.filter(customer=customer).select_related(*related).order_by("pk")
    rows = rows_of(DeliveryRecord, "customer", customer)
    for record, row in zip(records.iterator(chunk_size=AT_ONCE), rows, strict=True):
        yield {**row, "as_it_read": as_read(record)}


def as_read(record: DeliveryRecord) -> dict[str, str] | str:
    """How a copy read, or why nobody can tell any more."""
    try:
        copy = rendering.render_sent_copy(record)
    except content.ContentError as no:
        return str(no)
    return {"subject": copy.subject, "text": copy.text, "html": copy.html} if copy else "Nothing was sent yet."


def kept_files(customer: Customer) -> Iterator[tuple[str, str]]:
    """The files of their conversations that are there: where each is kept, and a name that is no other's."""
    threads = Conversation.objects.filter(customer=customer).values_list("attachments", flat=True)
    parts = ConversationPart.objects.filter(conversation__customer=customer).values_list("attachments", flat=True)
    entries = [entry for attachments in (*threads, *parts) for entry in attachments]
    for number, entry in enumerate(entries, start=1):
        path = conversation_attachments.place_kept(entry)
        if path and default_storage.exists(path):
            yield path, f"{number}-{conversation_attachments.called(str(entry.get('name') or 'file'))}"
