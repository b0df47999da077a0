"""The Outbound list: tabs, filters and rows."""

import re
from datetime import UTC, datetime
from html import unescape
from uuid import uuid4

import pytest
from django.utils import timezone

from audiences.models import Workspace
from delivery.models import DeliveryRecord, Status
from delivery.reporting import counters
from delivery.reporting.counters import Counts
from messaging import lifecycle
from messaging.models import Channel, Checking, Message, State
from outbound.console.wording import MEASURED, percent
from tests.factories import AT, CustomerFactory, MessageFactory, SenderFactory, TagFactory
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db
LIST = "/admin/messaging/message/"


def titles(answer) -> set[str]:
    return {message.title for message in answer.context["cl"].result_list}


@pytest.fixture
def of_each() -> None:
    MessageFactory(title="ongoing email", live=True)
    MessageFactory(title="ongoing chat", in_app=True)
    MessageFactory(title="one-off email", one_off=True)
    MessageFactory(title="to Ada", to_customer=CustomerFactory(name="Ada"), in_app=True)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", {"ongoing email", "ongoing chat", "one-off email"}),
        ("send_type__exact=ongoing", {"ongoing email", "ongoing chat"}),
        ("send_type__exact=one_off", {"one-off email"}),
        ("to=one_person", {"to Ada"}),
        ("state__exact=live", {"ongoing email"}),
        ("channel__exact=in_app", {"ongoing chat"}),
        ("send_type__exact=ongoing&channel__exact=email", {"ongoing email"}),
        ("q=CHAT", {"ongoing chat"}),
        ("q=nothing", set()),
        ("to=nonsense", {"ongoing email", "ongoing chat", "one-off email"}),
    ],
)
@pytest.mark.usefixtures("of_each")
def test_list_applies_filters_and_search(console, query, shown):
    assert titles(console.get(f"{LIST}?{query}")) == shown


@pytest.mark.usefixtures("of_each")
def test_filters_by_sender(console):
    own = SenderFactory(name="Grace")
    MessageFactory(title="from Grace", sender=own)

    assert titles(console.get(f"{LIST}?sender__id__exact={own.pk}")) == {"from Grace"}


@pytest.mark.parametrize(
    ("query", "active"), [("", "All"), ("?send_type__exact=one_off", "One-off"), ("?to=one_person", "")]
)
def test_the_open_tab_is_marked(console, query, active):
    page = console.get(f"{LIST}{query}").content.decode()

    marked = page.split('aria-current="page">')[1].split("<")[0] if 'aria-current="page"' in page else ""
    assert marked == active


def test_direct_message_shows_its_customer(console):
    MessageFactory(title="Hello", to_customer=CustomerFactory(name="Ada <script>"), in_app=True)

    page = console.get(f"{LIST}?to=one_person").content.decode()

    assert "To Ada &lt;script&gt;" in page


def test_row_of_a_message_to_an_audience_offers_the_explanation(console):
    message = MessageFactory(title="Welcome")
    MessageFactory(title="Hello", to_customer=CustomerFactory(), in_app=True)

    assert f'data-palette data-message="{message.pk}"' in console.get(LIST).content.decode()
    assert "data-message" not in console.get(f"{LIST}?to=one_person").content.decode()


def test_row_of_a_message_matched_by_rounds_shows_when_its_filters_are_checked(console):
    MessageFactory(live=True)
    MessageFactory(live=True, checking=Checking.AT_ONCE)
    MessageFactory(in_app=True)
    MessageFactory(one_off=True)

    page = console.get(LIST).content.decode()

    assert sorted(re.findall(r">(Checked [a-z ]+)<", page)) == [
        "Checked as soon as something changes",
        "Checked every hour",
    ]


def test_row_shows_sent_opened_and_waiting_counts(console):
    CustomerFactory.create_batch(4, email=None)
    message = MessageFactory(in_app=True, one_off=True, live=True)
    records = list(DeliveryRecord.objects.order_by("pk"))
    DeliveryRecord.objects.filter(pk__in=[record.pk for record in records[:3]]).update(
        status=Status.SENT, sent_at=AT, reason=""
    )
    DeliveryRecord.objects.filter(pk=records[0].pk).update(opened_at=AT)

    row = console.get(LIST).context["cl"].result_list[0]

    assert row == message
    assert row.counts == Counts(waiting=1, sent=3, opened=1)
    assert "33 %" in console.get(LIST).content.decode()


def test_queries_do_not_grow_with_the_rows(console, django_assert_max_num_queries):
    def make(count: int) -> None:
        for _ in range(count):
            MessageFactory(to_customer=None, sender=SenderFactory())

    make(2)
    console.get(LIST)
    with django_assert_max_num_queries(100) as few:
        console.get(LIST)
    make(12)
    with django_assert_max_num_queries(len(few.captured_queries)):
        console.get(LIST)


def test_message_with_a_problem_shows_it(console):
    message = MessageFactory(live=True)
    Message.objects.filter(pk=message.pk).update(problem="A rule names a tag that is gone.")

    assert "Problem" in console.get(LIST).content.decode()
    assert "A rule names a tag that is gone." in console.get(f"{LIST}{message.pk}/change/").content.decode()


def test_times_are_on_the_workspaces_clock(console):
    workspace = Workspace.current()
    workspace.zone = "Asia/Tokyo"
    workspace.save()
    MessageFactory(live=True, at=AT)

    assert "4 May 2026, 19:00" in console.get(LIST).content.decode()
    assert timezone.get_current_timezone_name() == "UTC"


# Rows


def cells(answer, title: str) -> dict[str, str]:
    """Return the text of each cell of a message's row by column name."""
    row = next(r for r in re.split(r"<tbody", answer.content.decode()) if title in r)
    found = re.findall(r'<t[dh][^>]*data-label="([^"]*)"[^>]*>(.*?)</t[dh]>', row, re.DOTALL)
    return {label: " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split()) for label, text in found}


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(0, 0, "–"), (1, 300, "0 %"), (1, 200, "1 %"), (1, 8, "13 %"), (2, 3, "67 %"), (5, 5, "100 %"), (0, 9, "0 %")],
)
def test_shares_are_whole_percents(part, whole, shown):
    assert percent(part, whole) == shown


def test_every_channel_has_measurable_events():
    assert set(MEASURED) == set(Channel)


def test_event_that_cannot_be_measured_is_a_dash(console):
    CustomerFactory(email="ada@acme.example")
    mark_records_sent(MessageFactory(title="News", one_off=True, live=True).records.all(), at=AT)

    row = cells(console.get(LIST), "News")

    assert (row["Sent"], row["Opened"], row["Clicked"], row["Replied"]) == ("1", "0 0 %", "0 0 %", "–")
    DeliveryRecord.objects.update(replied_at=AT)
    assert cells(console.get(LIST), "News")["Replied"] == "1 100 %"


def test_row_shows_the_next_send_time(console, monkeypatch):
    CustomerFactory(email="ada@acme.example")
    message = MessageFactory(title="News", one_off=True, live=True)

    assert cells(console.get(LIST), "News")["Sent"] == "0 1 waiting, sending now"
    message.records.update(due_at=datetime(2126, 5, 6, 7, 30, tzinfo=UTC), reason="window")
    assert cells(console.get(LIST), "News")["Sent"] == "0 1 waiting, next Mon 6 May, 07:30"
    Message.objects.update(state=State.PAUSED)
    assert cells(console.get(LIST), "News")["Sent"] == "0 1 waiting until resumed"


def test_row_shows_waiting_for_a_visit_or_for_the_scheduled_time(console):
    CustomerFactory()
    MessageFactory(title="Chat", in_app=True, one_off=True, live=True)
    lifecycle.schedule(MessageFactory(title="Later", one_off=True), for_=datetime(2126, 5, 6, 7, 30, tzinfo=UTC), at=AT)
    MessageFactory(title="Draft")

    page = console.get(LIST)

    assert cells(page, "Chat")["Sent"] == "0 1 waiting for a visit"
    assert cells(page, "Later")["Sent"] == "– Goes live Mon 6 May, 07:30"
    assert cells(page, "Draft")["Sent"] == "–"
    Message.objects.filter(title="Later").update(scheduled_for=AT)
    assert cells(console.get(LIST), "Later")["Sent"] == "– Was scheduled for Mon 4 May, 10:00"


def test_list_sorts_by_sent_copies(console):
    CustomerFactory.create_batch(3)
    for title, many in (("few", 1), ("most", 3), ("none", 0)):
        message = MessageFactory(title=title, in_app=True, one_off=True, live=True)
        pks = message.records.values_list("pk", flat=True)[:many]
        DeliveryRecord.objects.filter(pk__in=list(pks)).update(status=Status.SENT, sent_at=AT, reason="")
    counters.fold_changes()

    sent = [message.title for message in console.get(f"{LIST}?o=5").context["cl"].result_list]

    assert sent == ["most", "few", "none"]


def test_filters_by_tag(console):
    tag = TagFactory()
    MessageFactory(title="tagged").tags.add(tag)
    MessageFactory(title="plain")

    assert titles(console.get(f"{LIST}?tags__id__exact={tag.pk}")) == {"tagged"}


def test_tab_keeps_search_and_filters(console):
    links = [tab["link"] for tab in console.get(f"{LIST}?q=news&state__exact=live&p=2").context["tabs"]]

    assert links == [
        "?q=news&state__exact=live",
        "?q=news&state__exact=live&send_type__exact=ongoing",
        "?q=news&state__exact=live&send_type__exact=one_off",
    ]


@pytest.mark.parametrize(
    ("query", "says"), [("", "No messages yet."), ("?send_type__exact=one_off", "No one-off messages yet.")]
)
def test_empty_list_shows_the_next_step(console, query, says):
    page = console.get(f"{LIST}{query}").content.decode()

    assert says in page
    assert "Write your first message" in page
    assert "Write your first message" not in console.get(f"{LIST}?q=news").content.decode()


# Bulk actions


def choose(console, action: str, *chosen: Message):
    return console.post(LIST, {"action": action, "_selected_action": [m.pk for m in chosen]}, follow=True)


def test_pauses_and_resumes_many(console, nudged):
    one, two = MessageFactory(title="one", live=True), MessageFactory(title="two", live=True)
    draft = MessageFactory(title="draft")

    page = unescape(choose(console, "pause_chosen", one, two, draft).content.decode())

    assert "2 messages are paused." in page
    assert "“draft”: Only a live message can be paused." in page
    assert set(Message.objects.filter(state=State.PAUSED)) == {one, two}
    assert "1 message is resumed." in choose(console, "resume_chosen", one).content.decode()
    assert set(Message.objects.filter(state=State.PAUSED)) == {two}
    assert "Paused" in console.get(f"{LIST}{two.pk}/change/").content.decode().split("Log</h2>")[1]


def test_pause_says_how_many_copies_are_still_handed_over(console, nudged):
    message = MessageFactory(title="News", live=True)
    DeliveryRecord.objects.create(message=message, customer=CustomerFactory(), matched_at=AT, due_at=AT)
    message.records.mark_sending(claim=uuid4(), until=AT)

    page = unescape(console.post(f"{LIST}{message.pk}/act/pause/", follow=True).content.decode())

    assert "“News” is paused. Nothing more is sent until you resume it. 1 copy was still being handed over." in page


def test_bulk_pause_counts_the_copies_still_handed_over_by_message_and_in_total(console, nudged):
    messages = [MessageFactory(title=title, live=True) for title in ("News", "Tips", "Idle")]
    for message in (messages[0], messages[1], messages[1]):
        DeliveryRecord.objects.create(message=message, customer=CustomerFactory(), matched_at=AT, due_at=AT)
    DeliveryRecord.objects.all().mark_sending(claim=uuid4(), until=AT)

    page = unescape(choose(console, "pause_chosen", *messages).content.decode())

    assert "3 messages are paused." in page
    assert "“News”: 1 copy was still being handed over." in page
    assert "“Tips”: 2 copies were still being handed over." in page
    assert "In total, 3 copies were still being handed over." in page
    assert "“Idle”:" not in page


def test_duplicates_many(console, boss):
    message = MessageFactory(title="News", live=True)

    choose(console, "duplicate_chosen", message)

    copy = Message.objects.get(title="News (copy)")
    assert (copy.state, copy.created_by) == (State.DRAFT, boss)


def test_viewer_cannot_pause_messages(log_in_with):
    message = MessageFactory(live=True)
    console = log_in_with("messaging.view_message")

    choose(console, "pause_chosen", message)

    message.refresh_from_db()
    assert message.state == State.LIVE
