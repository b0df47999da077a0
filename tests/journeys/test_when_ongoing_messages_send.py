"""When do ongoing messages send? In-app on a visit, email by the hour, and at once after the article's GET."""

from datetime import timedelta

import pytest
from django_celery_beat.models import PeriodicTask

from delivery.models import DeliveryRecord
from tests.factories import rule

PRO = [rule("custom_attributes.plan", "is", "pro")]
AWAY = [rule("last_seen_at", "more_than_days_ago", 30)]
HALF_AN_HOUR = [{"weekday": 0, "from": "10:30", "to": "11:00"}]


# Once, or once for each company


def test_ongoing_message_is_not_sent_to_a_given_user_more_than_once(staff, server, visit, post, clock):
    """Ongoing messages won't send to a given user more than once."""
    server.user("ann", plan="pro")
    message = staff.sets_live(rules=PRO)

    for _ in range(3):
        clock.passes(hours=5)
        server.user("ann", plan="free")
        server.event("ann", "upgraded")
        server.user("ann", plan="pro")
        server.conversations("ann")
        visit("ann")
    staff.does("pause", message)
    staff.does("resume", message)
    clock.passes(hours=1)

    assert post.reached == ["ann"]


def test_message_with_a_company_variable_is_sent_once_for_each_company_a_user_is_a_member_of(
    staff, server, post, clock
):
    """If you use a company variable, it will send to your user once for each company they're a member of."""
    server.user("ann", companies=[{"company_id": "1", "name": "Acme"}, {"company_id": "2", "name": "Globex"}])

    staff.sets_live(subject="News for {{ company.name }}")
    clock.passes(hours=3)
    assert sorted(post.subjects_to("ann")) == ["News for Acme", "News for Globex"]

    server.user("ann", companies=[{"company_id": "3", "name": "Initech"}])
    clock.passes(hours=3)
    assert sorted(post.subjects_to("ann")) == ["News for Acme", "News for Globex", "News for Initech"]

    # A company that the user leaves and joins again is not a new one.
    server.user("ann", companies=[{"company_id": "3", "remove": True}])
    server.user("ann", companies=[{"company_id": "3"}])
    clock.passes(hours=3)
    assert len(post.to("ann")) == 3


def test_in_app_message_with_a_company_variable_is_shown_once_for_each_company(staff, server, visit):
    """If you use a company variable, it will send to your user once for each company they're a member of."""
    server.user("ann", companies=[{"company_id": "1", "name": "Acme"}, {"company_id": "2", "name": "Globex"}])
    staff.sets_live(channel="in_app", body="<p>Hello {{ company.name }}</p>")

    assert sorted(visit("ann")) == ["Hello Acme", "Hello Globex"]
    assert len(visit("ann", company={"company_id": "3", "name": "Initech"})) == 3


def test_customer_in_no_company_gets_no_message_with_a_company_variable_and_the_composer_counts_them(
    staff, server, post, clock
):
    """behaviour 4.3: a customer in no company gets none (a one-off skips them), and the composer says how many."""
    server.user("ann", companies=[{"company_id": "1", "name": "Acme"}, {"company_id": "2", "name": "Globex"}])
    server.user("bob")
    about_company = {"subject": "News for {{ company.name }}", "send_type": "one_off"}

    forecast = staff.presses("message_forecast", **staff.fields(**about_company))
    message = staff.sets_live(**about_company)
    clock.passes(hours=1)

    assert "1 person gets 2 messages, one for each of their companies that match." in forecast
    assert "1 person in no company gets none." in forecast
    assert post.reached == ["ann", "ann"]
    assert "Not in a company" in staff.reads("messaging_message_change", message)


def test_company_rules_are_about_the_company_the_message_is_about(staff, server, post):
    """behaviour 4.4: the unit is the pair (customer, company): all company rules hold for the same company."""
    big_trial = [rule("company.plan", "is", "trial"), rule("company.size", "greater_than", 100)]
    server.user(
        "ann",
        companies=[
            {"company_id": "1", "name": "Big payer", "plan": "paid", "size": 500},
            {"company_id": "2", "name": "Small trial", "plan": "trial", "size": 5},
        ],
    )
    server.user("bob", companies=[{"company_id": "3", "name": "Big trial", "plan": "trial", "size": 500}])

    staff.sets_live(subject="News for {{ company.name }}", rules=big_trial)
    staff.sets_live(subject="Plain news", rules=big_trial)

    assert post.subjects_to("bob") == ["News for Big trial", "Plain news"]
    assert post.to("ann") == []


# In-app


def test_in_app_ongoing_is_shown_when_the_customer_logs_in_or_visits(staff, server, visit, clock):
    """In-app ongoing messages send when: 1. The customer logs in or visits your site."""
    server.user("ann")
    message = staff.sets_live(channel="in_app", body="<p>Welcome back</p>")

    clock.passes(hours=3)
    server.conversations("ann")
    assert not DeliveryRecord.objects.filter(message=message).exists()

    assert visit("ann") == ["Welcome back"]


def test_in_app_ongoing_is_shown_only_to_matching_customers(staff, server, visit):
    """In-app ongoing messages send when: 2. They match the audience filters you've set."""
    server.user("ann", plan="pro")
    server.user("bob", plan="free")
    staff.sets_live(channel="in_app", body="<p>Hello pros</p>", rules=PRO)

    assert visit("ann") == ["Hello pros"]
    assert visit("bob") == []

    server.user("bob", plan="pro")
    assert visit("bob") == ["Hello pros"]


def test_data_sent_with_a_visit_counts_for_its_filters(staff, visit):
    """In-app ongoing messages send when: 1. The customer logs in … 2. They match the audience filters you've set."""
    visit("ann", plan="free")
    staff.sets_live(channel="in_app", body="<p>Hello pros</p>", rules=PRO)

    assert visit("ann", plan="free") == []
    assert visit("ann", plan="pro") == ["Hello pros"]


def test_in_app_ongoing_is_shown_only_during_the_delivery_times(staff, server, visit, clock, at):
    """In-app ongoing messages send when: 3. During the scheduled delivery times."""
    server.user("ann")
    server.user("bob")
    staff.sets_live(channel="in_app", body="<p>Half past ten</p>", window=HALF_AN_HOUR)

    assert visit("ann") == []
    clock.passes(until=at + timedelta(minutes=29))
    assert visit("ann") == []
    clock.passes(until=at + timedelta(minutes=30))
    assert visit("ann") == ["Half past ten"]
    clock.passes(until=at + timedelta(minutes=60))
    assert visit("bob") == []


def test_in_app_message_is_listed_until_it_is_opened_or_dismissed(staff, server, visit, clock):
    """behaviour 4.6: each answer lists all in-app messages not yet opened or dismissed."""
    server.user("ann")
    staff.sets_live(channel="in_app", body="<p>Hello</p>", window=[{"weekday": 0, "from": "10:00", "to": "10:30"}])

    first = visit.shown_messages("ann")
    clock.passes(hours=1)
    second = visit.shown_messages("ann")

    assert len(first) == 1
    assert second == first
    visit.dismiss("ann")
    assert visit("ann") == []


@pytest.mark.parametrize("form", ["chat", "announcement"])
def test_last_seen_rule_uses_the_value_from_before_the_login(staff, visit, clock, form):
    """We send any messages based on a "Last seen" rule before the 'Last seen' value is updated with the login."""
    visit("ann")
    clock.passes(days=31)
    often = [rule("last_seen_at", "less_than_days_ago", 1)]
    staff.sets_live(channel="in_app", format=form, body="<p>Welcome back</p>", rules=AWAY)
    staff.sets_live(channel="in_app", body="<p>Nice to see you often</p>", rules=often)

    (shown,) = visit.shown_messages("ann")
    assert (shown["body"], shown["format"]) == ("<p>Welcome back</p>", form)
    # The next page of the same session sees the same value (behaviour 4.16).
    assert visit("ann") == ["Welcome back"]

    # By the next session the login has updated it.
    clock.passes(hours=1)
    assert "Nice to see you often" in visit("ann")


def test_login_of_another_day_updates_last_seen(staff, visit, clock):
    """The 'Last seen' value is updated with the login."""
    visit("ann")
    clock.passes(days=29)
    visit("ann")
    clock.passes(days=29)
    staff.sets_live(channel="in_app", body="<p>Welcome back</p>", rules=AWAY)

    assert visit("ann") == []
    clock.passes(days=31)
    assert visit("ann") == ["Welcome back"]


# Email


def test_audience_filters_of_an_email_are_checked_every_hour(staff, server, post, clock, at):
    """An email user auto message sends when: 1. Users match your audience rules. (Checked every hour.)"""
    assert [str(task.interval) for task in PeriodicTask.objects.filter(task__endswith="match_ongoing_messages")] == [
        "every hour"
    ]
    server.user("ann", plan="free")
    staff.sets_live(rules=PRO)
    server.user("ann", plan="pro")

    clock.passes(until=at + timedelta(minutes=59))
    assert post.reached == []
    clock.passes(until=at + timedelta(minutes=60))
    assert post.reached == ["ann"]


def test_ongoing_email_waits_for_the_delivery_times(staff, server, post, clock, at):
    """An email user auto message sends when: 2. During the delivery times you set."""
    server.user("ann")
    staff.sets_live(window=HALF_AN_HOUR)

    clock.passes(until=at + timedelta(minutes=29))
    assert post.reached == []
    clock.passes(until=at + timedelta(minutes=30))
    assert post.reached == ["ann"]

    # A match after the window has closed waits for the next one, a week later.
    clock.passes(until=at + timedelta(minutes=61))
    server.user("bob")
    clock.passes(until=at + timedelta(days=6, hours=23))
    assert post.reached == ["ann"]
    clock.passes(until=at + timedelta(days=7, minutes=30))
    assert post.reached == ["ann", "bob"]


def test_visit_sends_an_email_too(staff, server, visit, post):
    """behaviour 4.7: ongoing emails are matched at go-live, every hour, at a visit, and at the GET."""
    server.user("ann", plan="free")
    staff.sets_live(rules=PRO)
    server.user("ann", plan="pro")

    visit("ann")

    assert post.reached == ["ann"]


# The Pro Tip


def test_get_of_conversations_after_a_data_update_sends_the_email_at_once(staff, server, post):
    """If you use the REST API to send data updates, you can make this call after your update."""
    server.user("ann", plan="free")
    staff.sets_live(rules=PRO)

    server.user("ann", plan="pro")
    assert post.reached == []
    server.conversations("ann")

    assert post.reached == ["ann"]


def test_get_of_conversations_after_an_event_call_sends_the_email_at_once(staff, server, post):
    """If you use the REST API to send event calls, you can make this call after your event call."""
    server.user("ann")
    server.user("bob")
    staff.sets_live(rules=[rule("event.invited-friend", "has_happened")])

    server.event("ann", "invited-friend")
    assert post.reached == []
    server.conversations("ann")
    server.conversations("bob")

    assert post.reached == ["ann"]


def test_get_of_conversations_triggers_at_most_once_every_fifteen_minutes_for_each_user(staff, server, post, clock, at):
    """This is limited to once every 15 minutes per user."""
    server.user("ann", plan="free")
    server.user("bob", plan="free")
    staff.sets_live(rules=PRO)
    server.conversations("ann")

    server.user("ann", plan="pro")
    server.user("bob", plan="pro")
    clock.passes(until=at + timedelta(minutes=14, seconds=59))
    limited = server.conversations("ann")
    assert post.reached == []
    assert limited.json()["type"] == "conversation.list"

    # The limit is each user's own.
    server.conversations("bob")
    assert post.reached == ["bob"]

    clock.passes(until=at + timedelta(minutes=15))
    server.conversations("ann")
    assert post.reached == ["ann", "bob"]


def test_visits_do_not_count_towards_the_fifteen_minutes(staff, server, visit, post):
    """behaviour 4.7: visits do not count towards the limit."""
    server.user("ann", plan="free")
    staff.sets_live(rules=PRO)
    visit("ann")

    server.user("ann", plan="pro")
    server.conversations("ann")

    assert post.reached == ["ann"]


def test_get_of_conversations_without_a_user_triggers_nothing(staff, server, post):
    """We will trigger message matching for a GET request with a user_id parameter and type=user parameter."""
    server.user("ann", plan="pro")
    staff.sets_live(rules=PRO, window=[{"weekday": 6, "from": "00:00", "to": "24:00"}])
    server.user("bob", plan="pro")

    assert server.get("/api/conversations").status_code == 200
    assert server.get("/api/conversations", type="user").status_code == 400

    assert not DeliveryRecord.objects.filter(customer__user_id="bob").exists()
