"""Completeness of export and erasure: a new table cannot be forgotten in either."""

import json
import uuid
from io import BytesIO
from zipfile import ZipFile

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.db.models import CharField, JSONField, Model, TextField
from django.urls import reverse

from audiences.models import (
    ConfirmationMail,
    Customer,
    Event,
    EventSummary,
    Import,
    ImportLine,
    Job,
    Notification,
    Subscription,
)
from delivery.conversations import attachments, threads
from delivery.customers import erase, export
from delivery.matching import direct
from delivery.models import (
    AnswerMail,
    Count,
    CountChange,
    DeliveryRecord,
    DeviceCopy,
    Hit,
    LaunchProgress,
    Link,
    MatchState,
    MissedMatch,
    Status,
    Tally,
    Visitor,
)
from delivery.visits import visit
from messaging.models import Autosave, Message, MessageVersion
from outbound import roles
from tests.factories import (
    CustomerFactory,
    CustomerTagFactory,
    EventFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    SenderFactory,
    TopicOptOutFactory,
)

pytestmark = pytest.mark.django_db
MARK = "hushed"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
# Counters, tags and the launch progress of a message contain no personal data.
OF_NOBODY = {Count, Tally, CountChange, LaunchProgress, MatchState, MissedMatch, Message.tags.through}
# Columns without personal data: names of events shared by many customers, send settings and counts of a message.
SAYS_NOTHING = {
    (Event, "name"),
    (EventSummary, "name"),
    (Message, "window"),
    (Message, "problem"),
    (Message, "paused_because"),
    (Message, "counted_from"),
    (MessageVersion, "rules"),
    (MessageVersion, "layout"),
}


def models_related_to(*roots: type[Model]) -> set[type[Model]]:
    """Return every table with a direct or indirect foreign key to one of these."""
    found = set(roots)
    while True:
        more = {
            model
            for model in apps.get_models(include_auto_created=True)
            if model not in found | OF_NOBODY
            and any(field.is_relation and field.related_model in found for field in model._meta.concrete_fields)
        }
        if not more:
            return found
        found |= more


def test_every_table_related_to_a_customer_is_in_the_export():
    # An autosave is unsent text, which only its author sees.
    assert models_related_to(Customer) - {Autosave} == set(export.SECTIONS)


def text_samples(model: type[Model]) -> list[tuple[str, object]]:
    """Return the columns of a table that can contain text, with a sample for each."""
    found = []
    for field in model._meta.concrete_fields:
        if (model, field.name) in SAYS_NOTHING or field.choices or field.is_relation:
            continue
        if isinstance(field, JSONField):
            is_list = field.default is list
            said = [{"name": MARK, "url": f"https://x.example/{MARK}"}] if is_list else {MARK: MARK}
            found.append((field.name, said))
        elif isinstance(field, CharField | TextField):
            found.append((field.name, MARK))
    return found


@pytest.fixture
def ann(at, settings, tmp_path) -> Customer:
    """A customer with a row in every table and a sample in every text column."""
    settings.MEDIA_ROOT = tmp_path
    ann = CustomerFactory(name="Ann", email="ann@x.example", first_seen_at=at)
    MembershipFactory(customer=ann)
    CustomerTagFactory(customer=ann)
    EventFactory(customer=ann)
    EventSummaryFactory(customer=ann)
    ann.notes.create(body="x", created_at=at)
    TopicOptOutFactory(customer=ann)
    ConfirmationMail.objects.request("ann@x.example", customer=ann, at=at)
    device = ann.devices.create(token="x", created_at=at)
    Visitor.objects.create(key=uuid.uuid4(), customer=ann, created_at=at)
    direct.send_to_one(
        ann, channel="email", format="", sender=SenderFactory(), subject="You", body="<p>x</p>", by=None, at=at
    )
    Link.objects.create(version=MessageVersion.objects.get(), number=0, address="x")
    record = DeliveryRecord.objects.get()
    Hit.objects.create(record=record, message=record.message, who="person", first_at=at, last_at=at)
    DeviceCopy.objects.create(record=record, device=device, taken=True, handed_over_at=at)
    thread = threads.open_by_customer(ann, body="x", at=at)
    part = threads.reply_by_customer(thread, body="x", at=at)
    AnswerMail.objects.create(part=part, due_at=at)
    hook = Subscription.objects.create(url="https://x.example", topics=["user.created"], created_at=at, updated_at=at)
    Notification.objects.create(subscription=hook, customer=ann, topic="user.created", created_at=at, due_at=at)
    job = Import.objects.create(file_name="people.csv", created_at=at, updated_at=at)
    ImportLine.objects.create(of=job, line=2, customer=ann, written_at=at)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL outbound.erasing = 'on'")
        for model, (_, way) in export.SECTIONS.items():
            rows = model.objects.filter(**{way: ann.pk})
            assert rows.count() == 1, model
            if says := dict(text_samples(model)):
                rows.update(**says)
        cursor.execute("SET LOCAL outbound.erasing = 'off'")
    boss = User.objects.create_superuser("boss", email="boss@acme.example")
    unsent = {"form": f"direct-message/{ann.pk}", "tab": uuid.uuid4(), "page": uuid.uuid4(), "fields": {"body": [MARK]}}
    Autosave.objects.create(teammate=boss, customer=ann, typed_at=at, **unsent)
    LogEntry.objects.log_actions(boss.pk, [Customer.objects.get(pk=ann.pk)], 2, change_message=MARK, single_object=True)
    Job.objects.create(created_at=at, updated_at=at).tasks.create(item_count=1, created_at=at).items.create(
        method="post", data_type="user", data={"user_id": MARK}, error="No."
    )
    ann.refresh_from_db()
    return ann


def exported(customer: Customer, *, at) -> dict:
    file, ending = export.export(customer, at=at)
    assert ending == "json"
    with file:
        return json.load(file)


def test_export_contains_all_personal_data(ann, at):
    found = exported(ann, at=at)

    for model, (name, _) in export.SECTIONS.items():
        (row,) = found[name]
        for column, said in text_samples(model):
            assert row[column] == said, (model, column)
    assert found["sent_in_bulk_and_refused"][0]["data"] == {"user_id": MARK}
    assert found["log"][0]["change_message"] == MARK
    assert found["companies"][0]["company__company_id"]
    assert found["tags"][0]["tag__name"]
    assert found["topics_opted_out_of"][0]["topic__name"]


def test_erasure_leaves_no_personal_data(ann, at):
    Subscription.objects.update(active=False)
    erase.erase(ann, at=at)

    for model in apps.get_models(include_auto_created=True):
        for row in model._default_manager.values():
            kept = {name for table, name in SAYS_NOTHING if table is model}
            said = {name: value for name, value in row.items() if name not in kept}
            assert MARK not in str(said).lower(), (model, row)


def test_export_contains_messages_as_received(at):
    ann = CustomerFactory(name="Ann")
    MessageFactory(in_app=True, body="<p>Hi {{ name }}</p>", live=True)
    visit.visit(ann, at=at)
    Customer.objects.update(name="Anna")

    (record,) = exported(ann, at=at)["messages"]

    assert (record["status"], record["message__channel"]) == (Status.SENT, "in_app")
    assert "Hi Ann" in record["as_it_read"]["text"]
    assert "Anna" not in record["as_it_read"]["html"]


def test_export_contains_no_other_customer(ann, at):
    bob = CustomerFactory(name="Bob", email="bob@x.example")
    threads.open_by_customer(bob, body="I am Bob", at=at)

    found = exported(bob, at=at)

    assert MARK not in json.dumps(found)
    assert [one["body"] for one in found["conversations"]] == ["<p>I am Bob</p>"]
    assert "Bob" not in json.dumps(exported(ann, at=at))


def test_export_contains_files_of_conversations(at, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    ann, bob = CustomerFactory(), CustomerFactory()

    def picture(name: str) -> list[dict]:
        upload = SimpleUploadedFile(name, PNG + name.encode(), content_type="image/png")
        return [attachments.store_image(upload, attachments.check_image(upload))]

    thread = threads.open_by_customer(ann, body="Hi", at=at, attachments=picture("me.png"))
    gone, linked = picture("gone.png"), {"name": "x", "url": "https://elsewhere.example/x.png"}
    threads.reply_by_customer(thread, body="", at=at, attachments=[*picture("me.png"), *gone, linked])
    threads.open_by_customer(bob, body="Hi", at=at, attachments=picture("bob.png"))
    attachments.delete_unused_files(gone)

    file, ending = export.export(ann, at=at)

    assert ending == "zip"
    with file, ZipFile(BytesIO(file.read())) as bundle:
        names = set(bundle.namelist())
        assert names == {"customer.json", "files/1-me.png", "files/2-me.png"}
        assert bundle.read("files/1-me.png").endswith(b"me.png")
        assert json.loads(bundle.read("customer.json"))["customer"] == ann.pk


# Console


def test_admin_exports_a_customer_and_the_log_records_it(admin_client, at):
    ann = CustomerFactory(name="Ann", attributes={"plan": "pro"})
    address = reverse("admin:customer_export", args=[ann.pk])
    assert address in admin_client.get(reverse("admin:audiences_customer_change", args=[ann.pk])).content.decode()

    answer = admin_client.post(address)

    assert answer["Content-Disposition"].startswith(f'attachment; filename="customer-{ann.pk}-')
    assert json.loads(b"".join(answer.streaming_content))["facts"][0]["attributes"] == {"plan": "pro"}
    assert LogEntry.objects.get().change_message == "Exported all data of the customer"
    assert admin_client.get(address).status_code == 303
    assert LogEntry.objects.count() == 1


def test_admin_erases_after_confirmation_and_the_log_names_no_one(admin_client):
    ann = CustomerFactory(name="Ann", email="ann@x.example")
    address = reverse("admin:customer_erase", args=[ann.pk])

    for typed in ("", "ann"):
        admin_client.post(address, {"sure": typed})
        assert Customer.objects.get().name == "Ann"
    admin_client.post(address, {"sure": "Erase"})

    ann.refresh_from_db()
    assert (ann.name, ann.email, ann.archived_at is not None) == ("", None, True)
    entry = LogEntry.objects.get()
    assert (entry.change_message, "Ann" in entry.object_repr) == ("Erased", False)


def test_only_admins_have_the_buttons(admin_client, client):
    ann = CustomerFactory(name="Ann")
    page = reverse("admin:audiences_customer_change", args=[ann.pk])
    viewer = User.objects.create_user("viewer", is_staff=True)
    roles.give_role(viewer, roles.Role.SENDER)
    client.force_login(viewer)

    assert "Data protection requests" in admin_client.get(page).content.decode()
    assert "Data protection requests" not in client.get(page).content.decode()
