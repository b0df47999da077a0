"""Recipients of a very large message: search and paging are as fast as for a small one, with as many queries."""

import time

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from delivery.models import DeliveryRecord
from messaging.models import Message
from outbound.messages import recipients
from tests.factories import CustomerFactory, MessageFactory
from tests.support.machine import slowdown

pytestmark = pytest.mark.django_db
MANY = 100_000
# Seconds, on a loaded machine.
SOON = 2.0


@pytest.fixture
def news() -> Message:
    """A message to one customer, then to a hundred thousand more."""
    CustomerFactory(user_id="ada", name="Ada Byron", email="ada@byron.example")
    return MessageFactory(title="News", one_off=True, live=True)


def to_many(message: Message) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO audiences_customer (user_id, email, role, name, phone, created_at, updated_at, session_count,
                unsubscribed_from_emails, has_hard_bounced, marked_email_as_spam, timezone, country, city, language,
                browser, os, user_agent, last_seen_ip, details, attributes)
            SELECT 'u' || n, 'u' || n || '@acme.example', 'user', 'Person ' || n, '', now(), now(), 0, FALSE, FALSE,
                FALSE, '', '', '', '', '', '', '', '', '{{}}', '{{}}' FROM generate_series(1, {MANY}) n;
            INSERT INTO delivery_deliveryrecord (message_id, customer_id, status, reason, due_at, matched_at, detail,
                attempts, provider_id, variables)
            SELECT {message.pk}, c.id, 'waiting', 'queued', now(), now(), '', 0, '', '{{}}'
            FROM audiences_customer c WHERE c.user_id <> 'ada';
            ANALYZE audiences_customer; ANALYZE delivery_deliveryrecord
            """  # noqa: S608 - numbers of ours
        )


def look(console, message: Message, query: str) -> tuple[float, int, list[str]]:
    with CaptureQueriesContext(
        connection,
    ) as asked:
        began = time.perf_counter()
        page = console.get(f"/admin/messaging/message/{message.pk}/change/?{query}")
        took = time.perf_counter() - began
    return took, len(asked), [record.customer.name for record in page.context["people"].records]


QUERIES = {
    "": "Ada Byron",
    "q=ADA@byron.example": "Ada Byron",
    "q=ada": "Ada Byron",
    "q=Byron": "Ada Byron",
    "q=nobody-at-all": None,
    "status=waiting": "Ada Byron",
}


def test_is_searched_by_index_as_soon_among_a_hundred_thousand_as_alone_and_asks_as_often(console, news):
    alone = {query: look(console, news, query) for query in QUERIES}

    to_many(news)

    for query, name in QUERIES.items():
        took, asked, names = look(console, news, query)
        assert names[:1] == ([name] if name else [])
        assert asked <= alone[query][1] + 1, query  # A large message needs one more query for its counts.
        assert took < SOON * slowdown(), query
    for search in ("ada@byron.example", "u77777", "u5@acme.example"):
        plan = recipients.filtered_records(news, status="", search=search).explain()
        assert "Seq Scan on audiences_customer" not in plan
        assert len(recipients.filtered_records(news, status="", search=search)) == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM delivery_deliveryrecord WHERE message_id = %s", [news.pk])
        assert cursor.fetchone()[0] == MANY + 1


def test_exact_user_id_wins_over_partial_matches(console, news):
    CustomerFactory(user_id="ada-2", name="Other")
    DeliveryRecord.objects.create(
        message=news, customer=CustomerFactory(user_id="xada", name="Third"), matched_at=news.created_at,
        due_at=news.created_at, status="waiting", reason="queued",
    )  # fmt: skip

    assert look(console, news, "q=ada")[2] == ["Ada Byron"]
    assert look(console, news, "q=ad")[2] == ["Ada Byron", "Third"]
