"""Autosave: typed text is stored for its author alone and restored until it is saved or discarded."""

import json
import re
from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.contrib.admin import site
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, SolarSchedule

from audiences.models import Integration, Subscription, Workspace
from delivery import schedule
from delivery.conversations import threads
from delivery.customers import erase, merge
from delivery.maintenance import retention
from delivery.models import Pace
from messaging.models import Autosave, FormVisit, Message, SavedReply
from outbound.edits import autosave
from tests.factories import CustomerFactory, MessageFactory, SegmentFactory, SenderFactory, TagFactory, TopicFactory
from tests.support.pages import field_of
from tests.support.staff import Staff

pytestmark = pytest.mark.django_db
ADD = "/admin/messaging/message/add/"
AUTOSAVE = "/admin/autosave/"
DAY = timedelta(days=1)


@pytest.fixture
def staff(boss, django_capture_on_commit_callbacks) -> Staff:
    return Staff(boss, lambda: django_capture_on_commit_callbacks(execute=True))


def mate(name: str = "cleo") -> tuple[Client, User]:
    """Return a second teammate with all permissions, and their client."""
    user = User.objects.create_superuser(name, f"{name}@acme.example", "pass", first_name=name.title())
    client = Client()
    client.force_login(user)
    return client, user


def report(client: Client, user: User, form: str, /, **values: object):
    """Post a report of an open page, and return the answer."""
    return client.post(AUTOSAVE, {"teammate": user.pk, "form": form, **values})


def typed(client: Client, user: User, form: str, /, *, tab=None, page=None, revision=0, age=0, **fields: str):
    """Post the text of a form."""
    values = {"tab": tab or uuid4(), "page": page or uuid4(), "revision": revision, "age": age}
    return report(client, user, form, fields=json.dumps({key: [one] for key, one in fields.items()}), **values)


def test_new_message_is_restored_for_its_author_only_until_it_is_saved(staff, at):
    client, boss = staff.browser, staff.user
    opened = client.get(ADD).content.decode()
    assert (Autosave.objects.count(), "Restored what you typed" in opened) == (0, False)

    answer = typed(
        client, boss, "message/new", subject="Half a th", send_type="one_off", tab=field_of(opened, "autosave")
    )

    assert answer.json()["revision"] == 1
    assert not Message.objects.exists()
    again = client.get(ADD)
    assert "Restored what you typed" in again.content.decode()
    form = again.context["form"]
    assert (form["subject"].value(), form["send_type"].value()) == ("Half a th", "one_off")
    cleo, _ = mate()
    assert cleo.get(ADD).context["form"]["subject"].value() == ""

    tab = field_of(again.content.decode(), "autosave")
    assert "is saved as a draft" in staff.composes(subject="Half a thought", autosave=tab)
    assert client.get(ADD).context["form"]["subject"].value() == ""
    late = typed(client, boss, "message/new", tab=tab, subject="Half a thou")
    assert (late.json()["is_ended"], Autosave.objects.open().count()) == (True, 0)


def test_discarded_text_is_gone_also_for_a_late_report(console, boss):
    tab = uuid4()
    typed(console, boss, "message/new", tab=tab, subject="No")

    assert report(console, boss, "message/new", tab=tab, discard=1).status_code == 200

    assert typed(console, boss, "message/new", tab=tab, subject="No").json()["is_ended"]
    assert console.get(ADD).context["form"]["subject"].value() == ""


def test_text_that_two_tabs_continue_is_kept_twice(console, boss):
    tab, first, second = uuid4(), uuid4(), uuid4()
    form = "message/new"
    typed(console, boss, form, tab=tab, page=first, subject="A")
    assert typed(console, boss, form, tab=tab, page=second, revision=1, subject="AB").json()["revision"] == 2

    refused = typed(console, boss, form, tab=tab, page=first, revision=1, subject="AC")

    typed(console, boss, form, tab=refused.json()["new_tab"], page=first, subject="AC")
    assert {tuple(row.fields["subject"]) for row in Autosave.objects.open()} == {("AB",), ("AC",)}


def test_older_text_of_the_same_page_does_not_replace_a_newer_one(console, boss):
    tab, page = uuid4(), uuid4()
    typed(console, boss, "message/new", tab=tab, page=page, subject="newer")

    answer = typed(console, boss, "message/new", tab=tab, page=page, revision=1, age=60_000, subject="older")

    assert (answer.status_code, Autosave.objects.get().fields) == (200, {"subject": ["newer"]})
    elsewhere = typed(console, boss, "message/new", age=60_000, subject="kept in a browser")
    assert elsewhere.json()["is_newest"] is False


def test_report_that_cannot_be_stored_is_refused_with_a_reason(console, boss):
    draft = MessageFactory()
    form = f"message/{draft.pk}"
    tab = {"tab": uuid4(), "page": uuid4()}
    for values, status, says in [
        ({"teammate": boss.pk + 1, "form": form}, 400, "Another teammate is logged in here."),
        ({"form": "message/999999"}, 404, "This was deleted"),
        ({"form": "message/1e3"}, 404, "This was deleted"),
        ({"form": "nonsense/1"}, 404, "This was deleted"),
        ({"form": "pace/smoke"}, 404, "This was deleted"),
        ({"form": "pace/\x00"}, 404, "This was deleted"),
        ({"form": "pace/" + "x" * 300}, 404, "This was deleted"),
        ({"form": "sender/" + "9" * 30}, 404, "This was deleted"),
        ({"form": "answer/new"}, 403, "Your role no longer allows this form."),
        ({"form": form, **tab, "fields": "x" * (autosave.MAX_LENGTH + 1)}, 413, "more than 300,000 characters"),
        ({"form": form, **tab, "fields": "{"}, 400, "could not be read"),
        ({"form": form, **tab, "fields": "[" * 100_000}, 400, "could not be read"),
        ({"form": form, **tab, "fields": '{"subject": "no list"}'}, 400, "could not be read"),
        ({"form": form, **tab, "page": "", "fields": "{}"}, 400, "could not be read"),
    ]:
        answer = console.post(AUTOSAVE, {"teammate": boss.pk, **values})
        assert (answer.status_code, says in answer.json()["wrong"]) == (status, True), values
    assert not Autosave.objects.exists()


def test_each_form_needs_its_permission(log_in_with):
    draft, segment = MessageFactory(), SegmentFactory()
    thread = threads.open_by_customer(CustomerFactory(), body="Hi", at=timezone.now())
    client = log_in_with("messaging.view_message", "audiences.view_audience", "delivery.view_conversation")
    user = User.objects.get(username="teammate")

    for form in (
        "message/new",
        f"message/{draft.pk}",
        f"message-audience/{draft.pk}",
        f"direct-message/{thread.customer_id}",
        f"answer/{thread.pk}",
        f"audience/{segment.pk}",
        f"sender/{draft.sender_id}",
    ):
        assert typed(client, user, form, body="x").status_code == 403, form
    assert (Autosave.objects.count(), FormVisit.objects.count()) == (0, 0)


def test_text_that_no_page_wrote_is_restored_without_an_error(console, boss):
    """Old pages and broken clients may have stored anything."""
    wrong = {"rules": "[[", "window": "{", "sender": "x", "scheduled_for": "tomorrow", "channel": "pigeon"}
    typed(console, boss, "message/new", subject="a\x00b\ud800", body="{{ x", seen="[", sample="-1", **wrong)

    page = console.get(ADD)

    assert (page.status_code, page.context["form"]["subject"].value()) == (200, "ab")


def test_answer_is_restored_as_the_reply_or_note_that_it_was(console, boss):
    thread = threads.open_by_customer(CustomerFactory(), body="Hi", at=timezone.now())
    page = reverse("admin:delivery_conversation_change", args=[thread.pk])
    tab = uuid4()
    typed(console, boss, f"answer/{thread.pk}", tab=tab, body="<p>Between us</p>", kind="note")

    form = console.get(page).context["form"]

    assert (form["body"].value(), form["kind"].value()) == ("<p>Between us</p>", "note")
    posted = {"body": "<p>Between us</p>", "ticket": uuid4(), "autosave": tab}
    console.post(reverse("admin:conversation_act", args=[thread.pk, "note"]), {**posted, "body": ""})
    assert Autosave.objects.open().exists()
    console.post(reverse("admin:conversation_act", args=[thread.pk, "note"]), posted)
    assert not Autosave.objects.open().exists()


def test_message_to_one_person_is_restored_until_it_is_sent(staff):
    ann = CustomerFactory(user_id="ann", name="Ann", email="ann@x.example")
    tab = uuid4()
    typed(staff.browser, staff.user, f"direct-message/{ann.pk}", tab=tab, way="email", subject="Your bill")

    page = staff.opens_send_a_message("ann")

    assert 'value="Your bill"' in page
    assert field_of(page, "autosave") == str(tab)
    staff.writes_to("ann", way="email", subject="Your bill", autosave=tab)
    assert not Autosave.objects.open().exists()


def test_erasing_a_person_deletes_unsent_text_to_them_and_keeps_other_text(console, boss, at):
    ann, bob = CustomerFactory(name="Ann"), CustomerFactory(name="Bob")
    thread = threads.open_by_customer(ann, body="Hi", at=at)
    forms = (f"direct-message/{ann.pk}", f"answer/{thread.pk}")
    for form in (*forms, f"direct-message/{bob.pk}"):
        assert typed(console, boss, form, tab=uuid4(), body="<p>Dear Ann</p>").status_code == 200

    erase.erase(ann, at=at)

    assert [row.form for row in Autosave.objects.open()] == [f"direct-message/{bob.pk}"]
    for form in forms:
        assert typed(console, boss, form, body="<p>Dear Ann</p>").status_code == 404
    assert not Autosave.objects.filter(customer=ann).exists()


def test_answer_follows_a_lead_who_becomes_a_known_user(console, boss, at):
    lead, user = CustomerFactory(role="lead", user_id=None, email=None), CustomerFactory(user_id="ann")
    thread = threads.open_by_customer(lead, body="Hi", at=at)
    typed(console, boss, f"answer/{thread.pk}", body="<p>Dear Ann</p>")

    merge.merge(lead, into=user, at=at)

    page = console.get(reverse("admin:delivery_conversation_change", args=[thread.pk]))
    assert page.context["form"]["body"].value() == "<p>Dear Ann</p>"
    assert Autosave.objects.get().customer == user


def test_autosaves_are_deleted_after_30_days_and_visits_after_a_day(console, boss):
    draft = MessageFactory()
    typed(console, boss, "message/new", subject="x")
    report(console, boss, f"message/{draft.pk}")
    at = timezone.now()

    for age, left in [(0 * DAY, (1, 1)), (2 * DAY, (1, 0)), (29.9 * DAY, (1, 0)), (30.1 * DAY, (0, 0))]:
        retention.delete_expired(at=at + age, go_on=lambda: True)
        assert (Autosave.objects.count(), FormVisit.objects.count()) == left, age


def test_others_in_the_same_form_are_shown_while_their_page_reports(console, boss):
    draft = MessageFactory()
    form = f"message/{draft.pk}"
    cleo_client, cleo = mate("cleo")
    opened = timezone.now().isoformat()
    assert report(console, boss, form, opened=opened).json() == {"others": [], "saved": None}

    assert report(cleo_client, cleo, form).json()["others"] == ["boss"]
    found = report(console, boss, form, opened=opened).json()

    assert (found["others"], found["saved"]) == (["Cleo"], None)
    page = reverse("admin:messaging_message_change", args=[draft.pk])
    sender = {"sender": draft.sender_id, "channel": "email", "send_type": "ongoing", "rules": "{}", "window": "[]"}
    assert cleo_client.post(page, {"title": "Newer", "subject": "x", "body": "x", **sender}).status_code == 302
    assert report(console, boss, form, opened=opened).json()["saved"]["by"] == "Cleo"
    with time_machine.travel(timezone.now() + timedelta(seconds=41)):
        assert report(console, boss, form, opened=opened).json()["others"] == []


def test_form_of_each_guarded_table_reports_under_its_name(console, boss):
    schedule.install()
    Integration.issue(name="The shop")
    Pace.objects.create(channel="email", per_second=10)
    moment = {"created_at": timezone.now(), "updated_at": timezone.now()}
    Subscription.objects.create(url="https://x.example", topics=["user.created"], **moment)
    SavedReply.objects.create(name="Delay", body="Sorry for the delay.")
    for make in (TagFactory, TopicFactory, SenderFactory, SegmentFactory, Workspace.current):
        make()
    CrontabSchedule.objects.get_or_create(minute="7")
    ClockedSchedule.objects.create(clocked_time=timezone.now())
    SolarSchedule.objects.create(event="sunset", latitude=1, longitude=1)
    for model, pages in site._registry.items():
        if not getattr(pages, "guards_edits", False):
            continue
        row = pages.get_queryset(RequestFactory().get("/")).first()
        label = f"{model._meta.app_label}_{model._meta.model_name}"
        page = console.get(reverse(f"admin:{label}_change", args=[quote(row.pk)])).content.decode()
        shown = re.search(r'data-open-form="([^"]+)"', page)
        assert shown, label
        assert report(console, boss, shown[1]).json() == {"others": [], "saved": None}, label
        assert json.loads(field_of(page, "seen")), label


def test_draft_with_an_error_in_its_template_is_saved_shown_and_not_sent(staff):
    draft = staff.saves(body="<p>Hi {{ first_name</p>", subject="{{ nobody }}")

    stored = Message.objects.get(pk=draft)
    assert (stored.version.body, stored.version.subject) == ("<p>Hi {{ first_name</p>", "{{ nobody }}")
    page = staff.reads("messaging_message_change", draft)
    assert "There is no variable" in page
    assert "Line 1" in page
    assert "Hello" in staff.reads("messaging_message_changelist")
    refused = staff.edits(draft, body="<p>Hi {{ first_name</p>", act="live")
    assert "Line 1" in refused
    assert Message.objects.get(pk=draft).went_live_at is None
    assert "is saved as a draft" in staff.edits(draft, body="<p>Hi {{ first_name }}</p>")


def test_report_without_a_login_leads_to_the_login(client, db):
    answer = client.post(AUTOSAVE, {"form": "message/new"})

    assert (answer.status_code, "/login/" in answer.url) == (302, True)
