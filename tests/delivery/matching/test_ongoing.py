"""Matching: the records of a message."""

from datetime import timedelta

import pytest
from django.db import connection

from audiences.models import Suppression, SuppressionReason, SuppressionSource
from delivery.matching import forecast as matching_forecast
from delivery.matching import launch, lifecycle, ongoing, recheck, sql
from delivery.models import DeliveryRecord, Reason, Status
from messaging import authoring
from messaging import lifecycle as message_lifecycle
from messaging.models import Message, NotReady, State
from tests.factories import CompanyFactory, CustomerFactory, MembershipFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db


def got(message: Message) -> list[tuple[str, str, str]]:
    """Return the records: user id, status, reason."""
    return sorted(message.records.values_list("customer__user_id", "status", "reason"))


def test_ongoing_round_records_only_matching_customers(at):
    CustomerFactory(user_id="pro", email="pro@x.example", name="Pro")
    CustomerFactory(user_id="free", email="free@x.example")
    message = MessageFactory(rules=[rule("name", "is", "Pro")], live=True, at=at)

    assert ongoing.match(message, at=at) == 1
    assert got(message) == [("pro", Status.WAITING, Reason.QUEUED)]


def test_next_round_adds_new_matches_and_no_customer_twice(at):
    CustomerFactory(user_id="first", email="first@x.example")
    message = MessageFactory(live=True, at=at)
    ongoing.match(message, at=at)
    CustomerFactory(user_id="later", email="later@x.example")

    assert ongoing.match(message, at=at + timedelta(hours=1)) == 1
    assert [user_id for user_id, *_ in got(message)] == ["first", "later"]


def test_unreachable_customer_is_not_matched_yet_by_an_ongoing_message(at):
    CustomerFactory(email=None)
    CustomerFactory(email="a@x.example", unsubscribed_from_emails=True)
    back = CustomerFactory(user_id="back", email="b@x.example")
    Suppression.objects.suppress(back.email, SuppressionReason.HARD_BOUNCE, source=SuppressionSource.SERVER, at=at)
    message = MessageFactory(live=True, at=at)
    assert ongoing.match(message, at=at) == 0
    Suppression.objects.of_address(back.email).lift(at=at)

    assert ongoing.match(message, at=at) == 1


def test_one_off_records_matching_customers_and_skips_unreachable_ones_with_the_reason(at):
    CustomerFactory(user_id="a", email="a@x.example")
    CustomerFactory(user_id="b", email=None)
    CustomerFactory(user_id="c", email="c@x.example", unsubscribed_from_emails=True)
    CustomerFactory(user_id="d", email="d@x.example", has_hard_bounced=True)
    CustomerFactory(user_id="e", email="e@x.example", marked_email_as_spam=True)
    message = MessageFactory(one_off=True, live=True, at=at)

    CustomerFactory(user_id="later", email="later@x.example")
    ongoing.match(message, at=at)

    assert got(message) == [
        ("a", "waiting", "queued"),
        ("b", "skipped", "no_email"),
        ("c", "skipped", "unsubscribed"),
        ("d", "skipped", "bounced"),
        ("e", "skipped", "complained"),
    ]


def test_one_off_without_matches_does_not_go_live(at):
    message = MessageFactory(one_off=True)

    with pytest.raises(NotReady, match="No customer matches"):
        launch.launch(message, at=at)

    message.refresh_from_db()
    assert message.state == State.DRAFT


def test_company_variable_makes_a_copy_for_each_company(at):
    both = CustomerFactory(user_id="both", email="both@x.example")
    MembershipFactory(customer=both, company=CompanyFactory(name="A"))
    MembershipFactory(customer=both, company=CompanyFactory(name="B"))
    CustomerFactory(user_id="alone", email="alone@x.example")
    message = MessageFactory(body="<p>News for {{ company.name }}</p>", live=True, at=at)

    ongoing.match(message, at=at)

    assert sorted(message.records.values_list("customer__user_id", "company__name")) == [("both", "A"), ("both", "B")]


def test_one_off_skips_customers_without_a_company(at):
    CustomerFactory(user_id="alone", email="alone@x.example")
    message = MessageFactory(one_off=True, body="<p>{{ company.name }}</p>", live=True, at=at)

    assert got(message) == [("alone", "skipped", "no_company")]


def test_outside_the_window_a_match_waits_for_the_opening(at):
    CustomerFactory(email="a@x.example")
    window = [{"weekday": 1, "from": "09:00", "to": "17:00"}]
    message = MessageFactory(window=window, live=True, at=at)

    ongoing.match(message, at=at)

    record = message.records.get()
    assert (record.reason, record.due_at) == (Reason.WINDOW, at.replace(day=5, hour=9))


def test_customers_own_zone_decides_when_their_window_opens(at):
    CustomerFactory(user_id="ny", email="a@x.example", timezone="America/New_York")
    CustomerFactory(user_id="nowhere", email="b@x.example", timezone="Mars/Olympus")
    window = [{"weekday": 1, "from": "09:00", "to": "17:00"}]
    message = MessageFactory(window=window, window_zone="customer", live=True, at=at)

    ongoing.match(message, at=at)

    due = dict(message.records.values_list("customer__user_id", "due_at"))
    assert due == {"ny": at.replace(day=5, hour=13), "nowhere": at.replace(day=5, hour=9)}


def test_record_that_waited_for_the_window_is_rechecked_with_todays_data(at):
    gone = CustomerFactory(user_id="gone", email="a@x.example", last_seen_at=at - timedelta(days=5))
    CustomerFactory(user_id="still", email="b@x.example", last_seen_at=at - timedelta(days=5))
    window = [{"weekday": 1, "from": "09:00", "to": "17:00"}]
    message = MessageFactory(rules=[rule("last_seen_at", "more_than_days_ago", 3)], window=window, live=True, at=at)
    ongoing.match(message, at=at)
    gone.last_seen_at = at + timedelta(hours=1)
    gone.save()
    opening = at.replace(day=5, hour=9)

    assert recheck.recheck_due(message, at=opening) == 1
    assert got(message) == [("gone", "withdrawn", "no_longer_matches"), ("still", "waiting", "queued")]


def test_withdrawn_customer_who_matches_again_is_requeued(at):
    back = CustomerFactory(email="a@x.example", name="Pro")
    window = [{"weekday": 1, "from": "09:00", "to": "17:00"}]
    message = MessageFactory(rules=[rule("name", "is", "Pro")], window=window, live=True, at=at)
    ongoing.match(message, at=at)
    back.name = "Free"
    back.save()
    opening = at.replace(day=5, hour=9)
    recheck.recheck_due(message, at=opening)
    back.name = "Pro"
    back.save()

    assert ongoing.match(message, at=opening) == 1
    assert message.records.get().status == Status.WAITING


def test_sample_draws_that_many_reachable_customers_and_the_rest_follows(at):
    for number in range(10):
        CustomerFactory(email=f"{number}@x.example", unsubscribed_from_emails=number < 3)
    message = MessageFactory(one_off=True)
    launch.launch(message, at=at, sample=4)

    assert message.records.counts()["waiting"] == 4
    assert message.state == State.SAMPLED
    launch.send_to_rest(message, at=at)
    counts = message.records.counts()
    assert (counts["waiting"], counts["skipped"]) == (7, 3)


def test_paused_message_matches_no_customer(at):
    CustomerFactory(email="a@x.example")
    message = MessageFactory(live=True, at=at)
    lifecycle.pause(message)

    assert ongoing.match(message, at=at) == 0
    assert not message.records.exists()


def test_resumed_message_rechecks_held_records_as_of_now(at):
    lapsed = CustomerFactory(user_id="lapsed", email="a@x.example", name="Pro")
    CustomerFactory(user_id="still", email="b@x.example", name="Pro")
    message = MessageFactory(rules=[rule("name", "is", "Pro")], live=True, at=at)
    ongoing.match(message, at=at)
    lifecycle.pause(message)
    lapsed.name = "Free"
    lapsed.save()
    message_lifecycle.resume(message, at=at + timedelta(days=1))

    ongoing.match(message, at=at + timedelta(days=1))

    assert got(message) == [("lapsed", "withdrawn", "no_longer_matches"), ("still", "waiting", "queued")]
    assert message.records.get(customer__user_id="still").matched_at == at + timedelta(days=1)


def test_stopped_message_withdraws_waiting_records(at):
    CustomerFactory(user_id="a", email="a@x.example")
    message = MessageFactory(live=True, at=at)
    ongoing.match(message, at=at)

    lifecycle.stop(message)

    assert got(message) == [("a", "withdrawn", "stopped")]


def test_forecast_counts_recipients_and_the_reasons_of_others(at):
    CustomerFactory(email="a@x.example")
    CustomerFactory(email=None)
    CustomerFactory(email="c@x.example", unsubscribed_from_emails=True)

    forecast = matching_forecast.forecast(MessageFactory(), at=at)

    assert (forecast.people, forecast.copies) == (3, 1)
    assert forecast.left_out == {Reason.NO_EMAIL: 1, Reason.UNSUBSCRIBED: 1}


def test_large_round_is_inserted_in_slices_without_gaps(at, monkeypatch):
    monkeypatch.setattr(sql, "SLICE", 7)
    for number in range(30):
        CustomerFactory(email=f"{number}@x.example")
    message = MessageFactory(live=True, at=at)
    seen: list[int] = []

    assert ongoing.match(message, at=at, progress=seen.append) == 30
    assert seen == [7, 14, 21, 28, 30]
    assert DeliveryRecord.objects.count() == 30


def test_round_with_invalid_rules_writes_trouble_on_the_message(at):
    message = MessageFactory(live=True, at=at)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # Bypasses the triggers.
        cursor.execute(
            "UPDATE audiences_audience SET rules = %s WHERE id = %s",
            [
                '{"match": "all", "rules": [{"attribute": "custom_attributes.gone", "operator": "is_unknown"}]}',
                message.audience_id,
            ],
        )
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")

    assert ongoing.match(Message.objects.get(pk=message.pk), at=at) == 0

    message.refresh_from_db()
    assert "custom_attributes.gone" in message.problem


def test_round_that_outlasts_an_edit_inserts_nothing_by_the_old_rules(at, monkeypatch):
    monkeypatch.setattr(sql, "SLICE", 2)
    for number in range(4):
        CustomerFactory(email=f"{number}@x.example", name="Pro" if number < 2 else "Free")
    message = MessageFactory(live=True, at=at)

    def edit_meanwhile(_made: int) -> None:
        other = Message.objects.get(pk=message.pk)
        if other.state == State.LIVE and other.versions.count() == 1:
            message_lifecycle.pause(other)
            authoring.change_audience(
                other, rules={"match": "all", "rules": [rule("name", "is", "Pro")]}, by=None, at=at
            )
            message_lifecycle.resume(other, at=at)

    ongoing.match(message, at=at, progress=edit_meanwhile)

    assert message.records.count() == 2
