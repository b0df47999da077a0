"""The console with a hundred thousand customers: the rows that a page reads are bounded by its size."""

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from outbound.console.admin import COUNT_LIMIT
from tests.factories import CustomerTagFactory, MembershipFactory, MessageFactory, SegmentFactory, rule

pytestmark = pytest.mark.django_db
MANY = 100_000
# A list counts up to the limit of its pages; a list of a segment reads up to four indexes.
MOST_READ = 4 * COUNT_LIMIT + 2_000
PEOPLE = "/admin/audiences/customer/"


@pytest.fixture
def company() -> dict[str, int]:
    """A hundred thousand customers with one tag and one company, all waiting for one message."""
    tagged = CustomerTagFactory(customer__user_id="ada", customer__name="Ada Byron")
    member = MembershipFactory(customer=tagged.customer)
    message = MessageFactory(title="News", one_off=True, live=True)
    MessageFactory(title="Welcome", live=True)
    segment = SegmentFactory(name="Known", rules={"match": "all", "rules": [rule("tag", "is", tagged.tag_id)]})
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO audiences_customer (user_id, email, role, name, phone, created_at, updated_at, last_seen_at,
                session_count, unsubscribed_from_emails, has_hard_bounced, marked_email_as_spam, timezone, country,
                city, language, browser, os, user_agent, last_seen_ip, details, attributes)
            SELECT 'u' || n, 'u' || n || '@acme.example', 'user', 'Person ' || n, '', now(), now(),
                now() - n * interval '1 second', 0, FALSE, FALSE, FALSE, '', '', '', '', '', '', '', '',
                '{{}}', '{{}}' FROM generate_series(1, {MANY}) n;
            INSERT INTO audiences_customertag (customer_id, tag_id, created_at)
            SELECT id, {tagged.tag_id}, now() FROM audiences_customer WHERE user_id <> 'ada';
            INSERT INTO audiences_membership (customer_id, company_id, created_at)
            SELECT id, {member.company_id}, now() FROM audiences_customer WHERE user_id <> 'ada';
            INSERT INTO delivery_deliveryrecord (message_id, customer_id, status, reason, due_at, matched_at, detail,
                attempts, provider_id, variables)
            SELECT {message.pk}, id, 'waiting', 'queued', now(), now(), '', 0, '', '{{}}'
            FROM audiences_customer WHERE user_id <> 'ada';
            ANALYZE audiences_customer; ANALYZE audiences_customertag; ANALYZE audiences_membership;
            ANALYZE delivery_deliveryrecord
            """  # noqa: S608 - numbers of ours
        )
    ids = {"tag": tagged.tag_id, "company": member.company_id, "message": message.pk, "segment": segment.pk}
    return {**ids, "customer": tagged.customer_id}


def rows_of(plan: dict) -> int:
    """Return the number of rows that a plan reads from tables and indexes."""
    read = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    here = round(read * plan["Actual Loops"]) if "Relation Name" in plan or "Index Name" in plan else 0
    return here + sum(rows_of(inner) for inner in plan.get("Plans", []))


def read_by(console, address: str) -> dict[str, int]:
    """Return the rows that each query of a page reads, the largest number first."""
    console.get(address)
    with CaptureQueriesContext(connection) as asked:
        assert console.get(address, follow=True).status_code == 200
    found = {}
    with connection.cursor() as cursor:
        for sql in {query["sql"] for query in asked if query["sql"].startswith(("SELECT", "WITH"))}:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
            plan = cursor.fetchone()[0]
            found[sql] = rows_of((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


PAGES = (
    *("/admin/", PEOPLE, f"{PEOPLE}?p=50", f"{PEOPLE}?segment={{segment}}", f"{PEOPLE}?q=u77777@acme.example"),
    *("/admin/messaging/message/", "/admin/messaging/message/?q=new", "/admin/audiences/audience/"),
    *("/admin/delivery/deliveryrecord/", "/admin/delivery/deliveryrecord/uncertain/", "/admin/delivery/conversation/"),
    *("/admin/audiences/customer/{customer}/change/", "/admin/audiences/customer/{customer}/why/?message={message}"),
    *("/admin/audiences/customer/{customer}/message/", f"{PEOPLE}import/", "/admin/messaging/message/add/"),
)
# These pages count exactly, with one pass: at most twice as many rows as there are.
COUNTING = (
    *(f"{PEOPLE}?role__exact=lead", f"{PEOPLE}?q=nobody", "/admin/messaging/message/{message}/change/"),
    *("/admin/audiences/company/", "/admin/audiences/company/{company}/change/"),
    *("/admin/audiences/tag/", "/admin/audiences/tag/{tag}/change/"),
)


def too_much(console, pages: tuple[str, ...], there: dict[str, int], *, most: int) -> str:
    """Return the queries of these pages that read more than the limit."""
    return "\n".join(
        f"{rows:,} rows on {page}: {sql[:3000]}"
        for page in pages
        for sql, rows in read_by(console, page.format(**there)).items()
        if rows > most
    )


def test_rows_read_by_a_page_are_bounded_by_its_size_and_counting_pages_read_each_row_once(console, company):
    wrong = [
        too_much(console, PAGES, company, most=MOST_READ),
        too_much(console, COUNTING, company, most=2 * MANY + 2_000),
    ]

    assert not any(wrong), "\n".join(wrong)
