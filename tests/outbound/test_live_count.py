"""The count beside the composer: at once, about as many where counting takes long, and exact soon after."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from delivery import matching
from delivery.models import Reason
from messaging.models import Message
from outbound.composer import views
from tests.factories import MessageFactory, SenderFactory, rule
from tests.outbound.test_composer import FORECAST, typed

pytestmark = pytest.mark.django_db
PEOPLE = 20_000
AT_ONCE = timedelta(milliseconds=1)


@pytest.fixture
def many(db) -> None:
    """Twenty thousand customers, every other on Acme's plan, every twentieth unsubscribed, as the planner knows."""
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
    """An estimate asks some two thousand of them."""
    monkeypatch.setattr(matching, "SAMPLED", 2_000)


def to_acme() -> Message:
    return MessageFactory(rules={"match": "all", "rules": [rule("email", "contains", "@acme")]})


@pytest.mark.usefixtures("many")
def test_what_is_counted_in_time_is_exact():
    found = matching.forecast_soon(to_acme(), at=timezone.now(), within=timedelta(minutes=1))

    assert (found.people, found.left_out, found.exact) == (10_000, {Reason.UNSUBSCRIBED: 1_000}, True)


@pytest.mark.usefixtures("many", "sampled")
def test_what_takes_too_long_to_count_is_estimated():
    found = matching.forecast_soon(to_acme(), at=timezone.now(), within=AT_ONCE)

    assert not found.exact
    # One block in ten is asked: sure to be off, and sure to be near.
    assert found.people == pytest.approx(10_000, rel=0.35)
    assert found.left_out[Reason.UNSUBSCRIBED] == pytest.approx(1_000, rel=0.35)
    assert found.copies == found.people - found.left_out[Reason.UNSUBSCRIBED]


@pytest.mark.usefixtures("many", "sampled")
def test_an_estimate_leaves_the_connection_without_a_limit_of_time():
    matching.forecast_soon(to_acme(), at=timezone.now(), within=AT_ONCE)

    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


@pytest.mark.usefixtures("many")
def test_a_database_that_fails_in_another_way_is_not_taken_for_a_slow_one(monkeypatch):
    message = to_acme()
    monkeypatch.setattr(matching, "no_record", lambda _per_company: "nonsense")
    monkeypatch.setattr(message, "state", "sampled")

    with pytest.raises(Exception, match="nonsense"):
        matching.forecast_soon(message, at=timezone.now(), within=timedelta(minutes=1))


@pytest.mark.usefixtures("many", "sampled")
def test_the_page_says_about_how_many_then_counts_and_confirms_exactly(console, monkeypatch):
    monkeypatch.setattr(views, "COUNT_WITHIN", AT_ONCE)
    posted = typed(SenderFactory(), send_type="one_off", rules=[rule("email", "contains", "@acme")])

    soon = console.post(FORECAST, posted).content.decode()
    exact = console.post(f"{FORECAST}?exact=1", posted).content.decode()

    assert "match now, about " in soon
    assert "Estimated. Counting exactly" in soon
    assert f"{FORECAST}?exact=1" in soon
    # What nobody counted is nothing to confirm, nor to hold the send against.
    assert 'name="reviewed"' not in soon
    assert "10,000 match now, 9,000 will receive it" in exact
    assert 'name="reviewed" value="10000"' in exact
    assert 'data-confirm="9000"' in exact
    assert "exact=1" not in exact
