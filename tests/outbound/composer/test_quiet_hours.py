"""Quiet hours in the console and the API: the review, the final sheet, the log, and the switch of urgent messages."""

from datetime import time

import pytest
from django.contrib.admin.models import LogEntry

from audiences.models import Workspace
from messaging import lifecycle
from messaging.models import Message
from outbound.composer import review
from outbound.composer.forms import audience_of
from tests.factories import AT, CustomerFactory, MessageFactory, SenderFactory
from tests.outbound.composer.test_composer import ADD, FORECAST, SHEET, message_page, ticket, typed
from tests.support.pages import as_words

pytestmark = pytest.mark.django_db
SWITCH = "Also during quiet hours"
EVENINGS = [{"weekday": day, "from": "22:00", "to": "24:00"} for day in range(7)]
OFFICE = [{"weekday": day, "from": "09:00", "to": "17:00"} for day in range(7)]


@pytest.fixture(autouse=True)
def quiet(db) -> None:
    Workspace.objects.update_or_create(pk=1, defaults={"quiet_from": time(22), "quiet_to": time(8)})


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "Delivered at any time outside quiet hours (22:00 to 08:00), UTC time. It is open now."),
        (
            {"window_zone": "customer"},
            "Delivered at any time outside quiet hours (22:00 to 08:00), in each customer’s own time zone.",
        ),
        ({"window": OFFICE}, "Delivered every day 09:00 to 17:00, UTC time. It is open now."),
        (
            {"window": [{"weekday": 0, "from": "07:00", "to": "09:00"}]},
            "Delivered Monday 07:00 to 09:00 outside quiet hours (22:00 to 08:00), UTC time."
            " It next opens Monday 08:00.",
        ),
        ({"during_quiet_hours": True}, review.ANY_TIME),
        ({"in_app": True}, review.ANY_TIME),
    ],
)
def test_delivery_times_in_words_include_quiet_hours(facts, words):
    assert review.delivery_times(MessageFactory(**facts), at=AT) == words


def test_review_and_sheet_say_that_an_urgent_message_goes_out_in_quiet_hours(console):
    CustomerFactory(email="ada@x.example")
    form = typed(SenderFactory())
    urgent = {**form, "during_quiet_hours": "on"}

    usual = as_words(console.post(FORECAST, form).content.decode())
    sheet = as_words(console.post(SHEET, {**form, "act": "live", "send_type": "one_off"}).content.decode())
    shown = [as_words(console.post(page, {**urgent, "act": "live"}).content.decode()) for page in (FORECAST, SHEET)]

    for page in (usual, sheet):
        assert page.count("outside quiet hours (22:00 to 08:00)") == 1
    assert review.AT_DELIVERY_TIMES in sheet
    for page in shown:
        assert page.count("It also goes out during quiet hours, 22:00 to 08:00.") == 1
        assert "outside quiet hours" not in page


def test_message_without_a_minute_outside_quiet_hours_cannot_go_live(console):
    form = typed(SenderFactory(), window=EVENINGS)

    sheet = console.post(SHEET, {**form, "act": "live"}).content.decode()

    assert "lie within the quiet hours of the workspace (22:00 to 08:00), so nothing could be sent" in as_words(sheet)
    assert 'href="#audience-step"' in sheet


def test_switch_is_offered_with_quiet_hours_saved_and_logged(console):
    assert SWITCH in console.get(ADD).content.decode()
    console.post(ADD, typed(SenderFactory(), ticket=ticket(console), during_quiet_hours="on"))

    draft = Message.objects.get()
    assert draft.during_quiet_hours
    Workspace.objects.update(quiet_from=None, quiet_to=None)
    assert SWITCH in console.get(message_page(draft)).content.decode()
    console.post(message_page(draft), typed(draft.sender))
    draft.refresh_from_db()
    assert not draft.during_quiet_hours
    assert f"{SWITCH}: from “yes” to nothing" in LogEntry.objects.order_by("pk").last().change_message
    assert SWITCH not in console.get(message_page(draft)).content.decode()


def test_paused_message_can_be_made_urgent_and_refuses_to_resume_without_a_time(console):
    message = MessageFactory(live=True, at=AT)
    lifecycle.pause(message)
    Message.objects.filter(pk=message.pk).update(window=EVENINGS)

    refused = console.post(f"{message_page(message).removesuffix('change/')}act/resume/", follow=True)
    page = f"{message_page(message).removesuffix('change/')}audience/"
    message.refresh_from_db()
    console.post(page, {**audience_of(message), "during_quiet_hours": "on"})
    message.refresh_from_db()

    assert "lie within the quiet hours" in refused.content.decode()
    assert (message.state, message.during_quiet_hours) == ("paused", True)
    console.post(f"{message_page(message).removesuffix('change/')}act/resume/")
    message.refresh_from_db()
    assert message.state == "live"
