"""The two send types of the article's first part, and the lock between them (behaviour 4.1, 4.2)."""

import re
from collections.abc import Iterator

import pytest
from django.db import IntegrityError, connection, transaction
from rest_framework.test import APIClient

from delivery.models import DeliveryRecord, Status
from messaging.models import Message
from tests.factories import rule
from tests.support import fcm_server
from tests.support.fcm_server import Firebase
from tests.support.pages import as_page

PRO = [rule("custom_attributes.plan", "is", "pro")]


@pytest.fixture
def firebase(settings, monkeypatch) -> Iterator[Firebase]:
    with fcm_server.serving(settings, monkeypatch) as server:
        yield server


@pytest.mark.filterwarnings("ignore:Message.token is deprecated")
def test_staff_send_an_email_an_in_app_and_a_mobile_push(staff, server, visit, post, firebase):
    """You can send Emails, In-apps, and Mobile push messages to engage your customers."""
    server.user("ann")
    server.device("ann", "phone-of-ann")

    staff.sets_live(channel="email", subject="An email")
    staff.sets_live(channel="in_app", body="<p>An in-app</p>")
    push = staff.sets_live(channel="push", text="A push")

    assert post.subjects_to("ann") == ["An email"]
    assert visit("ann") == ["An in-app"]
    assert [(sent["token"], sent["notification"]["body"]) for sent in firebase.pushes] == [("phone-of-ann", "A push")]
    opened = APIClient().post(
        "/messenger/pushes/opened", {"token": firebase.pushes[0]["data"]["outbound_token"]}, format="json"
    )
    record = DeliveryRecord.objects.get(message=push)
    assert (opened.status_code, record.status, record.opened_at is None) == (200, Status.SENT, False)


def test_ongoing_email_reaches_present_and_future_matches_once(staff, server, post, clock):
    """Ongoing messages will send to everyone who matches the filters now and anyone who matches in the future."""
    server.user("ann", plan="pro")
    server.user("bob", plan="free")

    staff.sets_live(send_type="ongoing", rules=PRO)
    assert post.reached == ["ann"]

    server.user("bob", plan="pro")
    server.user("cid", plan="pro")
    clock.passes(hours=1)
    assert post.reached == ["ann", "bob", "cid"]

    server.user("ann", plan="free")
    clock.passes(hours=2)
    server.user("ann", plan="pro")
    clock.passes(days=1)
    assert post.reached == ["ann", "bob", "cid"]


def test_one_off_email_reaches_only_present_matches(staff, server, visit, post, clock):
    """One-off messages will only send to people who match your audience filters now."""
    server.user("ann", plan="pro")
    server.user("bob", plan="free")

    staff.sets_live(send_type="one_off", rules=PRO)
    server.user("bob", plan="pro")
    server.user("cid", plan="pro")
    clock.passes(days=1)
    server.conversations("cid")
    visit("cid")

    assert post.reached == ["ann"]


def test_one_off_in_app_keeps_its_frozen_audience(staff, server, visit):
    """One-off messages will only send to people who match your filters now. (behaviour 4.1: evaluated once.)"""
    server.user("ann", plan="pro")
    server.user("bob", plan="free")

    staff.sets_live(channel="in_app", send_type="one_off", rules=PRO, body="<p>Hello pros</p>")
    server.user("ann", plan="free")
    server.user("bob", plan="pro")

    assert visit("ann") == ["Hello pros"]
    assert visit("bob") == []


def test_one_off_without_matches_cannot_be_set_live(staff, server):
    """One-off messages will only send to people who match your audience filters now: with no match there is none."""
    server.user("ann", plan="free")

    page = staff.composes(send_type="one_off", rules=PRO, act="live")

    assert "No customer matches right now" in page
    assert not Message.objects.exists()


def test_composer_offers_ongoing_or_one_off_under_step_two(staff):
    """When composing a message, under step 2 'Choose your audience', you can choose 'Ongoing' or 'One-off'."""
    page = staff.opens("messaging_message_add")

    step_two = page.partition('id="step-2"')[2].partition('id="step-3"')[0]
    assert "Choose your audience" in step_two
    assert re.findall(r'name="send_type" value="(\w+)"', step_two) == ["ongoing", "one_off"]
    words = as_page(step_two)
    assert "Ongoing" in words
    assert "One-off" in words


def test_send_type_of_a_draft_can_be_changed(staff, server, post, clock):
    """You can't change the way a message will send after it has been set live: before, you can."""
    server.user("ann")
    draft = staff.saves(send_type="ongoing")

    page = staff.edits(draft, send_type="one_off", act="live")
    server.user("bob")
    clock.passes(hours=1)

    assert "is live" in page
    assert post.reached == ["ann"]


@pytest.mark.parametrize(("before", "after"), [("ongoing", "one_off"), ("one_off", "ongoing")])
def test_form_cannot_change_the_send_type_of_a_live_message(staff, server, before, after):
    """Note: You can't change the way a message will send after it has been set live."""
    server.user("ann")
    message = staff.sets_live(channel="in_app", send_type=before)

    assert 'name="send_type"' not in staff.opens("messaging_message_change", message)
    assert 'name="send_type"' not in staff.opens("message_edit_content", message)
    staff.edits(message, channel="in_app", send_type=after, act="live")
    said = staff.presses("message_edit_content", message, **staff.fields(send_type=after, channel="in_app"))

    assert "the way it sends" in said
    assert "locked, because this message has been live" in said
    assert Message.objects.get(pk=message).send_type == before


def test_raw_sql_cannot_change_the_send_type_of_a_message_that_was_live(staff):
    """Note: You can't change the way a message will send after it has been set live. (behaviour 4.2: by a trigger.)"""
    message = staff.sets_live(send_type="ongoing")

    for verb in (None, "pause", "stop"):
        if verb:
            staff.does(verb, message)
        for change in ("send_type = 'one_off'", "channel = 'push'", "per_company = TRUE", "went_live_at = NULL"):
            with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"UPDATE messaging_message SET {change} WHERE id = %s", [message])  # noqa: S608


def test_edit_of_a_live_message_creates_a_version_and_sends_nothing_again(staff, server, post, clock):
    """behaviour 4.2, 3: content can be edited while live, as a new version; recipients do not get it again."""
    server.user("ann")
    message = staff.sets_live(body="<p>First words</p>")

    fields = staff.fields(body="<p>Better words</p>")
    staff.presses("message_edit_content", message, **fields)
    server.user("bob")
    clock.passes(hours=1)

    assert post.reached == ["ann", "bob"]
    (first,), (second,) = post.to("ann"), post.to("bob")
    assert "First words" in first.get_body().get_content()
    assert "Better words" in second.get_body().get_content()


@pytest.mark.parametrize(
    ("before", "after"),
    [("<p>Hello</p>", "<p>Hello {{ company.name }}</p>"), ("<p>Hello {{ company.name }}</p>", "<p>Hello</p>")],
)
def test_first_company_variable_cannot_be_added_nor_the_last_removed_once_live(staff, before, after):
    """behaviour 4.2: an edit that would add the first or remove the last company variable is refused."""
    message = staff.sets_live(body=before)

    said = staff.presses("message_edit_content", message, **staff.fields(body=after))

    assert "company variable" in said
    assert Message.objects.get(pk=message).version.body == before


def test_filters_of_an_ongoing_message_are_edited_only_while_paused(staff, server, post):
    """behaviour 4.2: an ongoing one's rules may be edited only while paused, as a logged version."""
    server.user("ann", plan="pro")
    server.user("bob", plan="free")
    message = staff.sets_live(rules=PRO)
    free = staff.fields(rules=[rule("custom_attributes.plan", "is", "free")])

    assert "Pause this message" in staff.presses("message_edit_audience", message, **free)
    staff.does("pause", message)
    staff.presses("message_edit_audience", message, **free)
    staff.does("resume", message)

    assert post.reached == ["ann", "bob"]
    assert Message.objects.get(pk=message).versions.count() == 2


def test_filters_of_a_one_off_are_locked_even_while_it_is_paused(staff, server):
    """behaviour 4.2: a one-off's rules are locked too."""
    server.user("ann", plan="pro")
    message = staff.sets_live(channel="in_app", send_type="one_off", rules=PRO)
    staff.does("pause", message)

    said = staff.presses("message_edit_audience", message, **staff.fields(rules=[]))

    assert "the filters" in said
    assert Message.objects.get(pk=message).audience.rules["rules"] == PRO
