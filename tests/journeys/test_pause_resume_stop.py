"""Pause, resume, stop and schedule a message (behaviour 4.9)."""

import pytest

from messaging.models import Message
from tests.factories import rule

PRO = [rule("custom_attributes.plan", "is", "pro")]
WEEKDAYS = [{"weekday": day, "from": "09:00", "to": "17:00"} for day in range(5)]


def test_paused_email_matches_and_sends_nothing_until_it_is_resumed(staff, server, visit, post, clock):
    """behaviour 4.9: Pause: nothing is matched, handed over or shown for the first time. Resume: then a round runs."""
    message = staff.sets_live()

    assert "is paused" in staff.does("pause", message)
    server.user("ann")
    clock.passes(hours=2)
    server.conversations("ann")
    visit("ann")
    assert post.reached == []

    staff.does("resume", message)
    assert post.reached == ["ann"]


@pytest.mark.parametrize("send_type", ["ongoing", "one_off"])
def test_paused_in_app_message_is_not_shown_for_the_first_time(staff, server, visit, send_type):
    """behaviour 4.9: from the moment the click returns, nothing is shown for the first time."""
    server.user("ann")
    server.user("bob")
    message = staff.sets_live(channel="in_app", send_type=send_type, body="<p>Hello</p>")
    assert visit("bob") == ["Hello"]

    staff.does("pause", message)
    assert visit("ann") == []
    assert visit("bob") == ["Hello"]

    staff.does("resume", message)
    assert visit("ann") == ["Hello"]


def test_held_records_are_rechecked_when_the_message_is_resumed(staff, server, post, clock):
    """behaviour 4.9: Resume: held records of an ongoing message are evaluated again as of now, dates too."""
    clock.comes("Saturday 10:00")
    server.user("ann", trial_ends_at=clock.days_ago(-2))
    server.user("bob", trial_ends_at=clock.days_ago(-2.9))
    soon = [rule("custom_attributes.trial_ends_at", "in_less_than_days", 3)]
    message = staff.sets_live(rules=soon, window=WEEKDAYS)
    staff.does("pause", message)

    clock.comes("Monday 12:00")
    assert post.reached == []
    staff.does("resume", message)

    # Ann's trial ended at 10:00.
    assert post.reached == ["bob"]


def test_resumed_one_off_continues_with_its_frozen_audience(staff, server, post, clock):
    """behaviour 4.9: a paused one-off continues when it is resumed; behaviour 4.1: its rules are evaluated once."""
    clock.comes("Saturday 10:00")
    server.user("ann", plan="pro")
    message = staff.sets_live(send_type="one_off", rules=PRO, window=WEEKDAYS)
    staff.does("pause", message)
    server.user("ann", plan="free")
    server.user("bob", plan="pro")
    clock.comes("Monday 12:00")
    assert post.reached == []

    staff.does("resume", message)

    assert post.reached == ["ann"]


def test_stop_is_final_and_withdraws_waiting_records(staff, server, visit, post, clock):
    """behaviour 4.9: Stop is final: waiting records are withdrawn."""
    clock.comes("Saturday 10:00")
    server.user("ann")
    message = staff.sets_live(window=WEEKDAYS)
    in_app = staff.sets_live(channel="in_app", send_type="one_off")

    staff.does("stop", message)
    staff.does("stop", in_app)
    clock.comes("Monday 12:00")

    assert post.reached == []
    assert visit("ann") == []
    report = staff.reads("messaging_message_change", message)
    assert "The message was stopped 1" in report
    assert "Resume" not in report
    assert "Only a paused message can be resumed" in staff.does("resume", message)
    assert Message.objects.get(pk=message).state == "stopped"


def test_paused_message_can_be_stopped(staff, server, post, clock):
    """behaviour 4.9: states: draft <-> scheduled -> live <-> paused -> stopped."""
    message = staff.sets_live()
    staff.does("pause", message)
    staff.does("stop", message)
    server.user("ann")
    clock.passes(hours=1)

    assert post.reached == []


# Scheduled


def test_scheduled_one_off_matches_at_its_scheduled_time(staff, server, post, clock):
    """One-off messages only send to people who match your filters now: for a scheduled one, at its time."""
    for number in range(40):
        server.user(f"user-{number}", plan="pro")
    page = staff.composes(send_type="one_off", rules=PRO, act="schedule", scheduled_for="2026-05-04T15:30")
    assert "goes live Monday 4 May 2026 at 15:30" in page

    server.user("user-0", plan="free")
    server.user("late", plan="pro")
    clock.comes("Monday 15:29")
    assert post.reached == []
    clock.comes("Monday 15:30")

    assert post.reached == sorted([*(f"user-{number}" for number in range(1, 40)), "late"])


def test_scheduled_one_off_whose_audience_drifted_stays_scheduled_and_alarms(staff, server, post, clock):
    """behaviour 4.9: a scheduled one-off whose audience drifted beyond the limit stays scheduled, and alarms."""
    for number in range(10):
        server.user(f"user-{number}", plan="pro")
    staff.composes(send_type="one_off", rules=PRO, act="schedule", scheduled_for="2026-05-04T15:30")
    message = Message.objects.get().pk
    server.user("one-too-many", plan="pro")

    clock.comes("Monday 15:30")

    assert post.reached == []
    assert Message.objects.get().state == "scheduled"
    assert "10 people matched at the review, 11 match now" in staff.reads("messaging_message_change", message)
    assert "Problem" in staff.reads("messaging_message_changelist")

    # A teammate checks the audience and sends the message.
    staff.does("live", message)
    assert len(post.reached) == 11


def test_scheduled_one_off_goes_back_to_being_a_draft(staff, server, post, clock):
    """behaviour 4.9: draft <-> scheduled."""
    server.user("ann")
    staff.composes(send_type="one_off", act="schedule", scheduled_for="2026-05-04T15:30")
    message = Message.objects.get().pk

    assert "is a draft again" in staff.does("unschedule", message)
    clock.comes("Monday 16:00")

    assert post.reached == []
    assert Message.objects.get().state == "draft"
