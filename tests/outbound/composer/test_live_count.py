"""The count in the composer: an estimate at once if counting is slow, the exact number soon after."""

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from audiences import customer_counts
from delivery import tasks
from delivery.matching import forecast, launch_job, sql
from delivery.models import DeliveryRecord, Reason
from messaging.models import Message, State
from outbound.composer import confirm, views
from outbound.people import segments
from tests.factories import MessageFactory, SenderFactory, rule
from tests.outbound.composer.test_composer import FORECAST, SHEET, message_page, typed

pytestmark = pytest.mark.django_db
PEOPLE = 20_000
AT_ONCE = timedelta(milliseconds=1)


@pytest.fixture
def many(db) -> None:
    """Twenty thousand customers with current planner statistics: half on Acme's plan, 5 % unsubscribed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audiences_customer (user_id, email, role, name, phone, created_at, updated_at, session_count,"
            " unsubscribed_from_emails, has_hard_bounced, marked_email_as_spam, timezone, country, city, language,"
            " browser, os, user_agent, last_seen_ip, details, attributes)"
            " SELECT 'u' || n, 'u' || n || CASE WHEN mod(n, 2) = 0 THEN '@acme.example' ELSE '@else.example' END,"
            " 'user', '', '', now(), now(), 0, mod(n, 20) = 0, FALSE, FALSE, '', '', '', '', '', '', '', '', '{}', '{}'"
            " FROM generate_series(1, %s) n",
            [PEOPLE],
        )
        cursor.execute("ANALYZE audiences_customer")


@pytest.fixture
def sampled(monkeypatch) -> None:
    """Limit an estimate to about two thousand customers."""
    monkeypatch.setattr(customer_counts, "SAMPLE_SIZE", 2_000)


def to_acme() -> Message:
    return MessageFactory(rules={"match": "all", "rules": [rule("email", "contains", "@acme")]})


@pytest.mark.usefixtures("many")
def test_fast_count_is_exact():
    found = forecast.forecast_within(to_acme(), at=timezone.now(), within=timedelta(minutes=1))

    assert (found.people, found.left_out, found.exact) == (10_000, {Reason.UNSUBSCRIBED: 1_000}, True)


@pytest.mark.usefixtures("many", "sampled")
def test_slow_count_of_a_segment_is_estimated_and_the_exact_one_follows(console, monkeypatch):
    page, rules = reverse("admin:audience_count_people"), json.dumps(to_acme().audience.rules)
    monkeypatch.setattr(segments, "COUNT_WITHIN", AT_ONCE)

    estimate = console.post(page, {"rules": rules})
    exact = console.post(f"{page}?exact=1", {"rules": rules})

    assert "Counting exactly" in estimate.content.decode()
    assert estimate.context["count"] == pytest.approx(10_000, rel=0.05)
    assert "10,000 match now" in exact.content.decode()
    assert "Counting exactly" not in exact.content.decode()


@pytest.mark.usefixtures("many", "sampled")
def test_slow_count_is_estimated():
    found = forecast.forecast_within(to_acme(), at=timezone.now(), within=AT_ONCE)

    assert not found.exact
    # Scaled by the customers in the sample, which are spread evenly here: the number of sampled blocks does not matter.
    assert found.people == pytest.approx(10_000, rel=0.02)
    assert found.left_out[Reason.UNSUBSCRIBED] == pytest.approx(1_000, rel=0.1)
    assert found.copies == pytest.approx(found.people - found.left_out[Reason.UNSUBSCRIBED], abs=1)


@pytest.mark.usefixtures("many", "sampled")
def test_an_estimate_leaves_the_connection_without_a_limit_of_time():
    forecast.forecast_within(to_acme(), at=timezone.now(), within=AT_ONCE)

    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


@pytest.mark.usefixtures("many")
def test_other_database_errors_are_not_mistaken_for_a_timeout(monkeypatch):
    message = to_acme()
    monkeypatch.setattr(sql, "no_record", lambda _per_company: "nonsense")
    monkeypatch.setattr(message, "state", "sampled")

    with pytest.raises(Exception, match="nonsense"):
        forecast.forecast_within(message, at=timezone.now(), within=timedelta(minutes=1))


@pytest.mark.usefixtures("many", "sampled")
def test_page_shows_an_estimate_then_the_exact_count_and_the_sheet_asks_for_it(console, monkeypatch):
    monkeypatch.setattr(views, "COUNT_WITHIN", AT_ONCE)
    posted = typed(SenderFactory(), send_type="one_off", rules=[rule("email", "contains", "@acme")])

    soon = console.post(FORECAST, posted).content.decode()
    exact = console.post(f"{FORECAST}?exact=1", posted).content.decode()

    assert "match now, about " in soon
    assert "Estimated. Counting exactly" in soon
    assert f"{FORECAST}?exact=1" in soon
    assert "10,000 match now, 9,000 will receive it" in exact
    assert "exact=1" not in exact
    sheet = console.post(SHEET, {**posted, "act": "live"}).content.decode()
    assert 'name="reviewed" value="10000"' in sheet
    assert 'name="receiving" value="9000"' in sheet
    assert "type the number of people it goes to: <strong>9,000</strong>" in sheet


# Launch if counting takes longer than a click waits


def set_live(console, draft: Message, *, reviewed: int, act: str = "live", **changes):
    """Press the button on a page with this count, of whom 9 in 10 will receive it."""
    receiving = str(reviewed * 9 // 10)
    shown = {"reviewed": str(reviewed), "receiving": receiving, "confirm": receiving, "act": act}
    posted = {"send_type": "one_off", "rules": [rule("email", "contains", "@acme")], **shown, **changes}
    return console.post(message_page(draft), typed(draft.sender, **posted), follow=True).content.decode()


@pytest.fixture
def slow(many, monkeypatch) -> Message:
    """A one-off draft for 10,000 people that no click has time to count."""
    monkeypatch.setattr(customer_counts, "SAMPLE_SIZE", 10_000)
    monkeypatch.setattr(confirm, "COUNT_WITHIN", AT_ONCE)
    return MessageFactory(one_off=True)


def test_launch_with_a_slow_count_is_left_to_the_worker(console, slow):
    said = set_live(console, slow, reviewed=9_900)

    assert "is going live" in said
    slow.refresh_from_db()
    assert (slow.state, slow.reviewed_count, DeliveryRecord.objects.count()) == (State.DRAFT, 9_900, 0)
    launch_job.launch(slow.pk, at=timezone.now())
    slow.refresh_from_db()
    assert (slow.state, slow.audience_count) == (State.LIVE, 10_000)


def test_the_worker_refuses_an_audience_that_drifted_with_both_numbers(console, slow):
    set_live(console, slow, reviewed=9_000)

    launch_job.launch(slow.pk, at=timezone.now())

    slow.refresh_from_db()
    assert (slow.state, slow.launching_at, DeliveryRecord.objects.count()) == (State.DRAFT, None, 0)
    assert "9,000 people matched at the review, 10,000 match now." in console.get(message_page(slow)).content.decode()


def test_a_page_that_had_counted_something_else_altogether_is_refused_at_once(console, slow):
    said = set_live(console, slow, reviewed=50)

    assert "50 people matched at the review, 10,000 match now." in said
    assert Message.objects.get().launching_at is None


@pytest.mark.parametrize("shown", [{}, {"receiving": ""}])
def test_confirmation_is_required_even_if_counting_is_slow(console, slow, shown):
    assert confirm.UNCONFIRMED in set_live(console, slow, reviewed=10_000, confirm="", **shown)
    assert Message.objects.get().launching_at is None


def test_scheduled_message_is_compared_with_the_reviewed_count(console, slow):
    set_live(console, slow, reviewed=9_900, act="schedule", scheduled_for="2999-05-04T09:30")

    assert Message.objects.get().reviewed_count == 9_900


def test_a_sample_of_very_many_is_drawn_by_the_worker(console, slow):
    set_live(console, slow, reviewed=9_900, act="sample", sample="20")
    launch_job.launch(slow.pk, at=timezone.now())

    slow.refresh_from_db()
    assert (slow.state, DeliveryRecord.objects.count()) == (State.SAMPLED, 20)


def test_an_ongoing_message_goes_live_and_is_matched_by_the_worker(console, slow):
    set_live(console, slow, reviewed=9_900, send_type="ongoing")
    tasks.launch_message(slow.pk)

    slow.refresh_from_db()
    assert (slow.state, DeliveryRecord.objects.count()) == (State.LIVE, 9_000)


def test_mistyped_number_shows_the_exact_count_again(console, slow):
    shown = {"reviewed": "19000", "receiving": "18000", "confirm": "1800"}

    said = console.post(f"/admin/messaging/message/{slow.pk}/act/live/", shown).content.decode()

    assert confirm.UNCONFIRMED in said
    assert "type the number of people it goes to: <strong>19,000</strong>" in said
    assert 'name="reviewed" value="20000"' in said
    assert 'name="receiving" value="19000"' in said
