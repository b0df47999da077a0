"""The workspace settings: validation and log."""

from datetime import time, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models.expressions import RawSQL
from django.urls import reverse

from audiences.models import Customer, Workspace
from delivery import tasks
from delivery.models import Reason
from messaging.models import Sender
from outbound.workspace import admin as workspace_admin
from tests.factories import AT, CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


def page() -> str:
    return reverse("admin:audiences_workspace_change", args=[Workspace.current().pk])


def form(**changes: object) -> dict[str, object]:
    return {
        "name": "Outbound",
        "zone": "UTC",
        "postal_address": "",
        "colour": "#2563eb",
        "confirm_above": 1000,
        "drift_percent": 5,
        "cap_messages": "",
        "cap_days": 7,
        "answer_by_email_after": 5,
        **changes,
    }


def test_change_is_logged_with_old_and_new_value(console):
    console.post(page(), form(name="Fernwood", drift_percent=8))

    said = LogEntry.objects.get().change_message
    assert "Name: from “Outbound” to “Fernwood”" in said
    assert "from “5” to “8”" in said


def test_lifted_frequency_cap_makes_a_worker_release_waiting_records(
    console, django_capture_on_commit_callbacks, monkeypatch
):
    queued: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tasks, "enqueue_task", lambda *task: queued.append(task) or True)
    message = MessageFactory(live=True)
    later = AT + timedelta(days=9000)
    record = message.records.create(customer=CustomerFactory(), matched_at=AT, due_at=later, reason=Reason.CAP)
    with django_capture_on_commit_callbacks(execute=True):
        console.post(page(), form(cap_messages=3))
    [(judge, reason)] = queued
    judge(reason)

    record.refresh_from_db()
    assert record.due_at < later


NIGHT = {"quiet_from": "22:00", "quiet_to": "08:00"}
EVENINGS = [{"weekday": day, "from": "22:00", "to": "24:00"} for day in range(7)]


def test_quiet_hours_are_saved_and_lifted_ones_release_waiting_records_also_without_a_broker(
    console, django_capture_on_commit_callbacks, monkeypatch
):
    monkeypatch.setattr(tasks, "enqueue_task", lambda *_task: False)
    message = MessageFactory(live=True)
    later = AT + timedelta(days=9000)
    record = message.records.create(customer=CustomerFactory(), matched_at=AT, due_at=later, reason=Reason.WINDOW)
    before = Workspace.current().generation

    console.post(page(), form(**NIGHT))
    assert Workspace.current().quiet_hours == (time(22), time(8))
    assert 'value="22:00"' in console.get(page()).content.decode()
    assert "Quiet from: from nothing to “22:00”" in LogEntry.objects.get().change_message
    assert Workspace.current().generation > before
    with django_capture_on_commit_callbacks(execute=True):
        console.post(page(), form())

    assert Workspace.current().quiet_hours is None
    record.refresh_from_db()
    assert record.due_at < later


def test_invalid_quiet_hours_are_refused_at_their_field(console):
    for typed, field, words in (
        ({"quiet_from": "22:00"}, "quiet_to", "leave both empty"),
        ({"quiet_to": "08:00"}, "quiet_from", "leave both empty"),
        ({"quiet_from": "08:00", "quiet_to": "08:00"}, "quiet_to", "cannot be the whole day"),
        ({"quiet_from": "22:15", "quiet_to": "08:00"}, "quiet_from", "half hour"),
        ({"quiet_from": "night", "quiet_to": "08:00"}, "quiet_from", "valid time"),
    ):
        errors = console.post(page(), form(**typed)).context["adminform"].form.errors
        assert list(errors) == [field], typed
        assert words in errors[field][0]
    assert Workspace.current().quiet_hours is None


def test_quiet_hours_that_leave_a_message_no_time_are_refused_and_name_it(console):
    for n in range(4):
        MessageFactory(title=f"Evening {n}", live=True, window=EVENINGS)
    MessageFactory(title="Urgent", live=True, window=EVENINGS, during_quiet_hours=True)
    MessageFactory(title="Draft", window=EVENINGS)
    MessageFactory(title="In app", live=True, window=EVENINGS, in_app=True)

    said = console.post(page(), form(**NIGHT)).context["adminform"].form.errors["quiet_from"][0]

    assert "“Evening 0”, “Evening 1”, “Evening 2” and 1 more lie within these hours" in said
    assert Workspace.current().quiet_hours is None


def test_double_opt_in_is_switched_on_with_a_log_entry_and_says_how_many_people_it_concerns(console):
    CustomerFactory(lead=True, email="a@x.example")
    CustomerFactory(lead=True, email="b@x.example")
    CustomerFactory(lead=True, email="c@x.example", opted_in_at=AT)
    CustomerFactory(lead=True, email="d@x.example", archived=True)
    CustomerFactory(lead=True)
    CustomerFactory(lead=True, email="bounced@x.example", has_hard_bounced=True)
    CustomerFactory(email="e@x.example")
    CustomerFactory(email="f@x.example", email_is_said=True)
    before = Workspace.current().generation
    assert not Workspace.current().double_opt_in
    assert "3 people have an address that they must confirm." in console.get(page()).content.decode()

    console.post(page(), form(double_opt_in="on"))

    assert Workspace.current().double_opt_in
    assert Workspace.current().generation > before
    assert "Leads confirm their address: from no to yes" in LogEntry.objects.get().change_message


@pytest.mark.parametrize(
    ("leads", "says"),
    [(0, "Nobody has an address that they must confirm."), (1, "1 person has an address that they must confirm.")],
)
def test_few_people_must_confirm(leads, says, console):
    for n in range(leads):
        CustomerFactory(lead=True, email=f"{n}@x.example")

    assert says in console.get(page()).content.decode()


def test_page_opens_although_counting_takes_too_long(console, monkeypatch):
    slow = Customer.objects.annotate(waits=RawSQL("pg_sleep(5)::text", ())).exclude(waits="x")
    monkeypatch.setattr(workspace_admin, "askable_customers", lambda: slow)
    monkeypatch.setattr(workspace_admin, "COUNTED_WITHIN", timedelta(milliseconds=50))
    CustomerFactory()

    assert "too many people to count here" in console.get(page()).content.decode()


def test_office_hours_accept_common_formats(console):
    answer = console.post(page(), form(Monday="9-12:30, 13:30–17:00", Sunday=""))

    assert answer.status_code == 302
    assert Workspace.current().office_hours == [
        {"weekday": 0, "from": "09:00", "to": "12:30"},
        {"weekday": 0, "from": "13:30", "to": "17:00"},
    ]
    assert "09:00-12:30, 13:30-17:00" in console.get(page()).content.decode()


@pytest.mark.parametrize("typed", ["all day", "9:10-17", "25-26", "09:00"])
def test_invalid_hours_show_field_error(console, typed):
    answer = console.post(page(), form(Tuesday=typed))

    assert answer.context["adminform"].form.errors["Tuesday"]
    assert Workspace.current().office_hours == []


def test_logo_is_stored_shown_and_removed(console, settings, tmp_path):
    settings.MEDIA_ROOT = str(tmp_path)

    console.post(page(), form(logo_upload=SimpleUploadedFile("logo.png", PNG, "image/png")))

    logo = Workspace.current().logo
    assert logo.endswith(".png")
    assert logo in console.get(page()).content.decode()
    console.post(page(), form(remove_logo="on"))
    assert Workspace.current().logo == ""


def test_logo_must_be_an_image(console):
    answer = console.post(page(), form(logo_upload=SimpleUploadedFile("logo.png", b"<svg onload=alert(1)>")))

    assert "That file is not an image." in answer.content.decode()
    assert Workspace.current().logo == ""


def test_change_of_a_sender_is_logged(console):
    sender = Sender.objects.create(name="Sam", email="sam@acme.example")

    console.post(
        reverse("admin:messaging_sender_change", args=[sender.pk]),
        {"name": "Sam Q", "email": "sam@acme.example", "reply_to": "", "teammate": "", "users": []},
    )

    assert LogEntry.objects.get().change_message == "Name: from “Sam” to “Sam Q”"


def test_log_is_filtered_by_teammate_and_object(console, boss):
    sender = Sender.objects.create(name="Sam", email="sam@acme.example")
    other = Sender.objects.create(name="Kim", email="kim@acme.example")
    for one in (sender, other):
        LogEntry.objects.log_actions(boss.pk, [one], 2, change_message=f"Changed {one.name}", single_object=True)
    log = "/admin/admin/logentry/"

    assert "Changed Sam" in console.get(log).content.decode()
    mine = console.get(log, {"user": boss.pk, "object_id": sender.pk}).content.decode()
    assert "Changed Sam" in mine
    assert "Changed Kim" not in mine
    assert "Changed Sam" not in console.get(log, {"user": boss.pk + 1}).content.decode()
