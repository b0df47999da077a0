"""The report of a message: sums, chart, recipients with reasons, export and versions."""

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry

from audiences.models import Customer, Membership
from delivery.matching import ongoing
from delivery.models import DeliveryRecord, Link, Status, VisitorKind
from delivery.reporting import counters
from delivery.sending import dispatcher
from delivery.tracking import hits
from messaging import authoring, lifecycle
from messaging.models import Channel, Message, SendType, State
from outbound.console.charts import COLOURS
from outbound.messages import left_out, recipients, report, version_diff
from outbound.messages.report import LABELS, SHOWN_EVENTS
from tests.factories import AT, CustomAttributeFactory, CustomerFactory, MembershipFactory, MessageFactory, rule
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db


def address(message: Message) -> str:
    return f"/admin/messaging/message/{message.pk}/change/"


def text(answer) -> str:
    page = re.sub(r"<(script|style).*?</\\1>", " ", answer.content.decode(), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def sent(records, *, at=AT, **moments) -> None:
    pks = list(records.values_list("pk", flat=True))
    records = DeliveryRecord.objects.filter(pk__in=pks)
    mark_records_sent(records, at=at)
    records.update(**moments or {"dismissed_at": None})


@pytest.fixture
def news():
    CustomerFactory(name="Ada", email="ada@acme.example")
    CustomerFactory(name="Bob", email="bob@acme.example")
    CustomerFactory(name="Cyd", email="cyd@acme.example", has_hard_bounced=True)
    CustomerFactory(name="Dee")
    return MessageFactory(
        title="News", one_off=True, live=True, body='<p>See <a href="https://acme.example/new">what is new</a></p>'
    )


def test_records_and_people_add_up(console, news):
    sent(news.records.filter(customer__name="Ada"))

    page = console.get(address(news))

    assert "4 = 1 waiting + 1 sent + 2 skipped." in text(page)
    found = page.context["statuses"]
    assert (found["records"], found["people"]) == (4, 4)
    assert sum(row["records"] for row in found["rows"]) == news.records.count()
    reasons = {r["words"]: r["records"] for row in found["rows"] for r in row["reasons"]}
    assert reasons == {"Queued": 1, "Their email bounced": 1, "Has no email address": 1}


def test_records_of_one_person_show_their_companies(console):
    customer = CustomerFactory(name="Ada")
    MembershipFactory.create_batch(3, customer=customer)
    MembershipFactory()
    message = MessageFactory(in_app=True, one_off=True, body="<p>{{ company.name }}</p>", live=True)
    some = message.records.filter(customer=customer).values("pk")[:1]
    DeliveryRecord.objects.filter(pk__in=list(some.values_list("pk", flat=True))).update(status=Status.SENT, sent_at=AT)

    page = console.get(address(message))

    rows = {row["status"]: (row["records"], row["people"]) for row in page.context["statuses"]["rows"]}
    assert rows == {Status.WAITING: (3, 2), Status.SENT: (1, 1)}
    assert "one person can be counted in several rows: 2 people in total" in text(page)


@pytest.mark.parametrize(("send_type", "status"), [("one_off", "skipped"), ("ongoing", "withdrawn")])
def test_former_members_are_counted_under_their_reason(console, send_type, status):
    for name in ("Ada", "Bob"):
        MembershipFactory(customer__name=name, customer__email=f"{name}@acme.example".lower())
    message = MessageFactory(body="<p>{{ company.name }}</p>", send_type=send_type, live=True)
    ongoing.match(message, at=AT)
    Membership.objects.all().delete()
    dispatcher.dispatch(clock=lambda: AT, until=AT + timedelta(seconds=1))

    page = console.get(address(message))

    assert f"2 = 2 {status}." in text(page)
    assert "No longer in this company 2" in text(page)
    assert "Cannot be reached" not in text(page)
    head, *rows = export(console, message)
    assert [row[head.index("Reason")] for row in rows] == ["No longer in this company"] * 2


def test_figures_are_shares_of_sent_copies(console, news):
    sent(news.records.filter(status=Status.WAITING), opened_at=AT)
    DeliveryRecord.objects.filter(customer__name="Ada").update(clicked_at=AT, unsubscribed_at=AT)

    figures = {f["label"]: (f["number"], f["share"]) for f in console.get(address(news)).context["figures"]}

    assert figures["Sent"] == (2, "")
    assert figures["Opened"] == (2, "100 %")
    assert figures["Clicked"] == (1, "50 %")
    assert figures["Unsubscribed"] == (1, "50 %")
    assert figures["Replied"] == (None, "Not measured")


def test_every_figure_has_a_label():
    assert {"sent", *SHOWN_EVENTS} == set(LABELS)


def test_every_charted_figure_and_every_channel_has_a_colour():
    assert set(COLOURS) >= {"sent", "opened", "clicked", "replied", "bounced", "unsubscribed", *Channel.values}


def test_chart_shows_events_over_time(console, news):
    sent(news.records.filter(customer__name="Ada"), at=AT, opened_at=AT + timedelta(days=3))
    sent(news.records.filter(customer__name="Bob"), at=AT + timedelta(days=1))
    counters.fold_changes()

    chart = console.get(address(news)).context["chart"]

    assert list(chart.labels) == ["4 May", "5 May", "6 May", "7 May"]
    drawn = {one["label"]: one["data"] for one in json.loads(chart.data)["datasets"]}
    assert drawn == {"Sent": [1, 1, 0, 0], "Opened": [0, 0, 0, 1]}
    assert chart.rows == [("7 May", [0, 1]), ("5 May", [1, 0]), ("4 May", [1, 0])]


def test_short_period_is_charted_by_hour_in_the_workspaces_zone(console, news):
    sent(news.records.filter(status=Status.WAITING), at=datetime(2026, 5, 4, 10, 20, tzinfo=UTC))

    assert list(console.get(address(news)).context["chart"].labels) == ["4 May, 10:00"]


def test_nothing_sent_draws_nothing(console, news):
    assert console.get(address(news)).context["chart"] is None


def test_waiting_copies_show_their_reason_and_time(console, news):
    DeliveryRecord.objects.filter(status=Status.WAITING).update(
        reason="window", due_at=datetime(2126, 5, 6, 7, 30, tzinfo=UTC)
    )
    without_window = text(console.get(address(news)))
    Message.objects.update(window=[{"weekday": 0, "from": "07:30", "to": "17:00"}])

    assert "2 until quiet hours end From Mon 6 May, 07:30" in without_window
    assert "2 until the delivery window opens From Mon 6 May, 07:30" in text(console.get(address(news)))
    Message.objects.update(state=State.PAUSED)
    assert "2 until the message is resumed" in text(console.get(address(news)))


def test_trouble_is_an_alarm(console, news):
    Message.objects.update(problem="A rule names a tag that is gone.")

    page = console.get(address(news)).content.decode()

    assert "A rule names a tag that is gone." in page.split('role="alert"')[1][:400]


def test_lists_the_links(console, news):
    page = text(console.get(address(news)))

    assert "what is new https://acme.example/new – –" in page
    assert "People who clicked any link 0" in page


def test_links_are_sorted_by_clicks_with_bot_hits_and_earlier_versions(console, news, boss):
    first = news.version
    gone, new = (
        Link.objects.create(version=first, number=number, address=f"https://acme.example/{name}")
        for number, name in enumerate(("gone", "new"))
    )
    later = authoring.revise(
        news,
        subject="Hi",
        body='<p><a href="https://acme.example/new">what is new</a> <a href="{{ name }}">n</a></p>',
        by=boss,
        at=AT,
    )
    again = Link.objects.create(version=later, number=0, address="https://acme.example/new")
    ada, bob = news.records.filter(status=Status.WAITING).order_by("pk")
    for record, link, who, times in (
        (ada, gone, VisitorKind.PERSON, 1),
        (ada, new, VisitorKind.PERSON, 3),
        (bob, again, VisitorKind.PERSON, 2),
        (bob, again, VisitorKind.MACHINE, 7),
        (bob, None, VisitorKind.PRIVACY, 2),
        (ada, None, VisitorKind.PERSON, 9),
    ):
        for _ in range(times):
            hits.count_hit(record, link=link, who=who, at=AT)

    page = text(console.get(address(news)))

    assert (
        "Link People Clicks what is new https://acme.example/new"
        " Scanners and bots also followed it 7 times 2 5"
        " https://acme.example/gone In an earlier version 1 1 n {{ name }} – –" in page
    )
    assert "Not counted as opens: Apple Mail loaded it 2 times automatically" in page


# People


def names(answer) -> list[str]:
    return [record.customer.name for record in answer.context["people"].records]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ["Ada", "Bob", "Cyd", "Dee"]),
        ("status=skipped", ["Cyd", "Dee"]),
        ("status=sent", []),
        ("status=nonsense", ["Ada", "Bob", "Cyd", "Dee"]),
        ("q=BOB@", ["Bob"]),
        ("q=a&status=waiting", ["Ada", "Bob"]),
        ("q=Bo%00b", ["Bob"]),
        ("after=nonsense", ["Ada", "Bob", "Cyd", "Dee"]),
        ("after=99999999999999999999-0", ["Ada", "Bob", "Cyd", "Dee"]),
    ],
)
def test_finds_people(console, news, query, shown):
    assert names(console.get(f"{address(news)}?{query}")) == shown


def test_reason_of_a_count_leads_to_the_people_with_this_reason(console, news):
    page = console.get(address(news)).content.decode()
    link = re.search(r'href="([^"]+)">Has no email address</a>', page)[1]
    shown = console.get(address(news) + unescape(link).removesuffix("#people"))

    assert names(shown) == ["Dee"]
    assert "Has no email address" in text(shown)
    assert '<option value="no_email" selected>' in shown.content.decode()
    assert names(console.get(f"{address(news)}?reason=nonsense")) == ["Ada", "Bob", "Cyd", "Dee"]
    assert [row[0] for row in export(console, news, "status=skipped&reason=no_email")][1:] == ["Dee"]


def test_report_of_an_ongoing_message_counts_the_people_left_out_now(console, news):
    Customer.objects.filter(name="Ada").update(unsubscribed_from_emails=True)
    welcome = MessageFactory(live=True)
    address_of_counts = f"/admin/messaging/message/{welcome.pk}/left-out/"

    assert address_of_counts in console.get(address(welcome)).content.decode()
    assert "Left out now" not in text(console.get(address(news)))
    shown = text(console.get(address_of_counts))
    assert "4 match now: 1 will receive it, 3 are left out." in shown
    assert "Unsubscribed from emails 1" in shown


def test_count_of_the_people_left_out_names_a_rule_that_is_no_longer_valid(console):
    attribute = CustomAttributeFactory(name="plan")
    welcome = MessageFactory(live=True, rules=[rule("custom_attributes.plan", "is", "pro")])
    attribute.delete()

    assert "Rule 1: there is no attribute" in text(console.get(f"/admin/messaging/message/{welcome.pk}/left-out/"))


def test_slow_count_of_the_people_left_out_is_given_up(console, monkeypatch):
    welcome = MessageFactory(live=True)
    monkeypatch.setattr(left_out, "count_outcomes_within", lambda *_, **__: None)

    assert left_out.TOO_MANY in text(console.get(f"/admin/messaging/message/{welcome.pk}/left-out/"))


def test_large_message_explains_which_searches_are_fast(console, news, monkeypatch):
    says = "A search for a complete email address or user ID is instant."
    assert says not in text(console.get(address(news)))

    monkeypatch.setattr(report, "LARGE_AUDIENCE", 3)

    assert says in text(console.get(address(news)))


def test_recipients_are_listed_with_the_text_of_the_reason(console, news):
    assert "Cyd Skipped Their email bounced" in text(console.get(address(news)))


def test_pages_forward_and_back_over_customers_with_many_companies(console, monkeypatch):
    monkeypatch.setattr(recipients, "PAGE_SIZE", 3)
    for name in ("Ada", "Bob", "Cyd"):
        MembershipFactory.create_batch(3, customer=CustomerFactory(name=name))
    CustomerFactory(name="Dee")
    message = MessageFactory(in_app=True, one_off=True, body="<p>{{ company.name }}</p>", live=True)
    everybody = [r.pk for r in message.records.order_by("customer_id", "company_id")]
    assert len(everybody) == 10

    seen, query, pages = [], "", []
    for _ in range(4):
        page = console.get(f"{address(message)}?{query}").context["people"]
        seen += [record.pk for record in page.records]
        pages.append([record.pk for record in page.records])
        query = f"after={page.older}"

    assert seen == everybody
    assert not page.older
    for expected in reversed(pages[:-1]):
        page = console.get(f"{address(message)}?before={page.newer}").context["people"]
        assert [record.pk for record in page.records] == expected
    assert not page.newer


def test_queries_do_not_grow_with_the_people(console, news, django_assert_max_num_queries):
    console.get(address(news))
    with django_assert_max_num_queries(100) as few:
        console.get(address(news))
    CustomerFactory.create_batch(30, email=None)
    more = MessageFactory(title="More", one_off=True, live=True)
    with django_assert_max_num_queries(len(few.captured_queries)):
        console.get(address(more))


# Export


def export(console, message: Message, query: str = "") -> list[list[str]]:
    answer = console.get(f"/admin/delivery/deliveryrecord/of/{message.pk}/export/?{query}")
    assert answer.streaming
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    written = b"".join(answer.streaming_content).decode()
    assert written.startswith("\ufeff")
    return list(csv.reader(StringIO(written[1:])))


def test_export_contains_every_recipient_with_the_reason(console, news):
    head, *rows = export(console, news)

    assert head[:6] == ["Name", "Email", "User ID", "Company", "Status", "Reason"]
    assert [(row[0], row[4], row[5]) for row in rows] == [
        ("Ada", "Waiting", "Queued"),
        ("Bob", "Waiting", "Queued"),
        ("Cyd", "Skipped", "Their email bounced"),
        ("Dee", "Skipped", "Has no email address"),
    ]


def test_export_is_written_to_the_log(console, news):
    export(console, news)

    assert LogEntry.objects.get(object_id=str(news.pk)).change_message == "Exported its people"


def test_export_applies_status_and_search(console, news):
    assert [row[0] for row in export(console, news, "status=skipped&q=cyd")[1:]] == ["Cyd"]


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        *(("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@SUM(A1)", "'@SUM(A1)")),
        # A tab or a line break may separate cells too.
        *(("\t=1", "'\t'=1"), ("\r=1", "'\r'=1")),
    ],
)
def test_no_cell_is_a_formula(console, name, cell):
    CustomerFactory(name=name)
    message = MessageFactory(in_app=True, one_off=True, live=True)

    assert [row[0] for row in export(console, message)[1:]] == [cell]


def test_export_needs_the_permission_to_view_records(log_in_with, news):
    console = log_in_with("messaging.view_message")

    assert console.get(f"/admin/delivery/deliveryrecord/of/{news.pk}/export/").status_code == 403
    assert "Export as CSV" not in console.get(address(news)).content.decode()


def test_export_of_a_missing_message_is_not_found(console):
    assert console.get("/admin/delivery/deliveryrecord/of/4242/export/").status_code == 404


# Versions


def test_versions_show_author_and_changes(console, boss):
    message = MessageFactory(live=True, subject="Hello", body="<p>Come to our sale on Friday</p>")
    authoring.revise(message, subject="Hello", body="<p>Come to our sale on Monday</p>", by=boss, at=AT)

    page = console.get(address(message)).content.decode()

    assert "<del>Friday</del><ins>Monday</ins>" in page
    assert "by boss. Changed: text" in text(console.get(address(message)))


def test_a_link_that_leads_elsewhere_is_a_change():
    before, after = (
        version_diff.body_as_text(f'<p>Go <a href="https://{host}.example">there</a></p>') for host in "ab"
    )

    kinds = [(piece.kind, piece.text) for piece in version_diff.word_diff(before, after)]

    assert ("removed", "[https://a.example]") in kinds
    assert ("added", "[https://b.example]") in kinds


def test_script_in_a_version_cannot_run_in_the_console(console):
    message = MessageFactory(live=True, subject="<script>alert(1)</script>")

    assert "<script>alert(1)" not in console.get(address(message)).content.decode()


def test_filters_that_changed_are_a_change(console, boss):
    message = MessageFactory(live=True, rules=[rule("name", "is", "Ada")])
    lifecycle.pause(message)
    authoring.change_audience(message, rules={"match": "all", "rules": [rule("name", "is", "Bob")]}, by=boss, at=AT)

    page = console.get(address(message))

    assert "Changed: filters" in text(page)
    assert "<del>Ada</del><ins>Bob</ins>" in page.content.decode()


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"one_off": True}, "the filters and how often a customer gets it are locked"),
        ({}, "Pause it to change the filters"),
    ],
)
def test_report_explains_locked_settings(console, facts, says):
    CustomerFactory(email="ada@acme.example")
    message = MessageFactory(live=True, **facts)

    assert says in text(console.get(address(message)))
    assert message.send_type in SendType.values
