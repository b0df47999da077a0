"""During the delivery times you set: records wait for the window and are rechecked when it opens (behaviour 4.8)."""

from delivery.models import DeliveryRecord
from tests.factories import rule

WEEKDAYS = [{"weekday": day, "from": "09:00", "to": "17:00"} for day in range(5)]
PRO = [rule("custom_attributes.plan", "is", "pro")]
AWAY = [rule("last_seen_at", "more_than_days_ago", 3)]


def status() -> tuple[str, str]:
    record = DeliveryRecord.objects.get()
    return record.status, record.reason


def test_match_outside_the_delivery_times_waits_until_they_open(staff, server, post, clock):
    """behaviour 4.8: outside the window a match is recorded as waiting with due_at at the next opening."""
    clock.comes("Saturday 10:00")
    server.user("ann")
    staff.sets_live(window=WEEKDAYS)

    assert status() == ("waiting", "window")
    assert f"{DeliveryRecord.objects.get().due_at:%A %H:%M}" == "Monday 09:00"
    clock.comes("Monday 08:59")
    assert post.reached == []
    clock.comes("Monday 09:00")
    assert post.reached == ["ann"]


def test_last_seen_more_than_3_days_ago_matched_saturday_seen_sunday_withdrawn_monday(
    staff, server, visit, post, clock
):
    """behaviour 4.8: "Last seen more than 3 days ago", matched Saturday by the hour, seen Sunday: withdrawn Monday."""
    visit("ann", email="ann@x.example")
    clock.comes("Saturday 10:00")
    message = staff.sets_live(rules=AWAY, window=WEEKDAYS)
    assert status() == ("waiting", "window")

    clock.comes("Sunday 12:00")
    visit("ann")
    clock.comes("Monday 09:00")

    assert status() == ("withdrawn", "no_longer_matches")
    assert post.reached == []
    assert "No longer matches the audience" in staff.reads("messaging_message_change", message)


def test_trial_ends_in_less_than_3_days_matched_saturday_sent_monday(staff, server, post, clock):
    """behaviour 4.8: "Trial ends in less than 3 days", matched Saturday: sent Monday, with dates as of the match."""
    clock.comes("Saturday 10:00")
    server.user("ann", trial_ends_at=clock.days_ago(-1.9))
    staff.sets_live(rules=[rule("custom_attributes.trial_ends_at", "in_less_than_days", 3)], window=WEEKDAYS)

    clock.comes("Monday 09:00")

    assert post.reached == ["ann"]


def test_visit_that_matches_a_message_does_not_withdraw_it(staff, visit, post, clock):
    """behaviour 4.8: the visit that caused the match does not count against it."""
    visit("ann", email="ann@x.example")
    staff.sets_live(rules=[rule("last_seen_at", "more_than_days_ago", 5)], window=WEEKDAYS)
    clock.comes("Saturday 10:00")
    clock.passes(minutes=30)
    assert not DeliveryRecord.objects.exists()

    visit("ann")
    assert status() == ("waiting", "window")
    clock.comes("Monday 09:00")

    assert post.reached == ["ann"]


def test_ongoing_message_is_rechecked_when_the_window_opens_and_new_matches_are_queued_again(
    staff, server, post, clock
):
    """behaviour 4.8: when the window opens, an ongoing record is evaluated again with today's data."""
    clock.comes("Saturday 10:00")
    server.user("ann", plan="pro")
    staff.sets_live(rules=PRO, window=WEEKDAYS)

    server.user("ann", plan="free")
    clock.comes("Monday 09:00")
    assert status() == ("withdrawn", "no_longer_matches")

    server.user("ann", plan="pro")
    clock.passes(hours=1)
    assert post.reached == ["ann"]


def test_one_off_checks_only_reachability_when_the_window_opens(staff, server, post, clock):
    """behaviour 4.1: the rules are evaluated once; at hand-over only reachability and the window are checked."""
    clock.comes("Saturday 10:00")
    for user_id in ("ann", "bob"):
        server.user(user_id, plan="pro")
    message = staff.sets_live(send_type="one_off", rules=PRO, window=WEEKDAYS)

    server.user("ann", plan="free")
    server.user("bob", unsubscribed_from_emails=True)
    clock.comes("Monday 09:00")

    assert post.reached == ["ann"]
    assert "Unsubscribed from emails 1" in staff.reads("messaging_message_change", message)


def test_delivery_times_can_use_each_customers_time_zone(staff, server, post, clock):
    """During the delivery times you set (behaviour 3: the workspace's zone or the customer's)."""
    server.user("ann", timezone="Europe/Dublin")
    server.user("bob", timezone="America/New_York")
    server.user("cid")
    clock.comes("Tuesday 07:00")
    staff.sets_live(window=WEEKDAYS, window_zone="customer")

    # 9:00 is 08:00 UTC in Dublin in summer and 13:00 UTC in New York; customers without a zone use the workspace's.
    for moment, reached in (
        ("Tuesday 07:30", []),
        ("Tuesday 08:00", ["ann"]),
        ("Tuesday 09:00", ["ann", "cid"]),
        ("Tuesday 12:59", ["ann", "cid"]),
        ("Tuesday 13:00", ["ann", "bob", "cid"]),
    ):
        clock.comes(moment)
        assert post.reached == reached


def test_one_off_in_app_waits_for_a_visit_inside_the_window(staff, server, visit, clock):
    """behaviour 4.5: an in-app one-off waits for each recipient's next visit inside the window."""
    clock.comes("Saturday 10:00")
    server.user("ann")
    staff.sets_live(channel="in_app", send_type="one_off", body="<p>Hello</p>", window=WEEKDAYS)

    assert visit("ann") == []
    clock.comes("Monday 09:00")
    assert visit("ann") == ["Hello"]
