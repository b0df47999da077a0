"""The open report refreshes itself while something changes, in a real browser."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from delivery.matching import lifecycle
from messaging.models import Message, State
from tests.browser.conftest import violations
from tests.factories import CustomerFactory, MessageFactory
from tests.support.records import mark_records_sent

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SIZES = ({"width": 1440, "height": 900}, {"width": 390, "height": 844})
SHOWN_NUMBERS = (
    "canvas => JSON.stringify(Chart.getChart(canvas).data.datasets.map((one) => [one.label, one.data.at(-1)]))"
)


@pytest.fixture(autouse=True)
def allow_clock(browser_errors) -> None:
    """Let the clock of the test be refused in the frame with the message's text, which runs no scripts."""
    browser_errors.allow("Blocked script execution in 'about:srcdoc'")


@pytest.fixture
def now() -> datetime:
    """The moment of every send, because the chart has a point for each hour."""
    return timezone.now()


@pytest.fixture
def news(now) -> Message:
    for n in range(8):
        CustomerFactory(user_id=f"p{n}", name=f"Person {n}", email=f"p{n}@acme.example")
    message = MessageFactory(title="News", one_off=True, live=True)
    mark_records_sent(message.records.filter(customer__user_id__in=("p0", "p1")), at=now)
    return message


def watch_refreshes(page: Page) -> list[str]:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/refresh/" in request.url else None)
    return asked


def set_hidden(page: Page, *, hidden: bool) -> None:
    page.evaluate(
        "hidden => { Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size['width']}")
def test_report_refreshes_its_numbers_and_leaves_the_reader_alone(console, live_server, news, now, size):
    page = console
    page.set_viewport_size(size)
    page.clock.install()
    page.goto(f"{live_server.url}/admin/messaging/message/{news.pk}/change/")
    chart = page.locator("canvas.chart")
    expect(page.locator(".ob-going")).to_contain_text("2 of 8 done.")
    assert chart.evaluate(SHOWN_NUMBERS) == '[["Sent",2]]'
    page.get_by_text("Show as a table").click()
    search = page.get_by_label("Search", exact=True)
    search.fill("perso")
    chart.evaluate("canvas => { canvas.isTheSame = true; }")
    scrolled = page.evaluate("scrollY")

    mark_records_sent(news.records.exclude(status="sent")[:4], at=now)
    page.clock.fast_forward(5_000)

    expect(page.locator(".ob-going")).to_contain_text("6 of 8 done.")
    expect(page.locator(".ob-figure").first).to_have_text("Sent6")
    expect(page.get_by_role("region", name="Records by status")).to_contain_text("6")
    assert chart.evaluate(SHOWN_NUMBERS) == '[["Sent",6]]'
    assert chart.evaluate("canvas => canvas.isTheSame")
    expect(page.locator(".ob-chart-table tbody")).to_contain_text("6")
    expect(search).to_be_focused()
    expect(search).to_have_value("perso")
    assert page.evaluate("scrollY") == scrolled
    expect(page.locator("#report-said")).to_have_text("Live: 75 % done")
    assert violations(page, within="document.getElementById('main')") == []


def test_report_is_not_refreshed_while_it_is_hidden_or_nothing_changes(console, live_server, news, browser_errors):
    browser_errors.allow("ERR_INTERNET_DISCONNECTED|ERR_FAILED")
    page, asked = console, watch_refreshes(console)
    page.clock.install()
    page.goto(f"{live_server.url}/admin/messaging/message/{news.pk}/change/")
    set_hidden(page, hidden=True)
    page.clock.fast_forward(600_000)
    assert asked == []
    with page.expect_response(lambda answer: "/refresh/" in answer.url):
        set_hidden(page, hidden=False)

    # Without a connection the old numbers are marked, and asked for ever more seldom.
    page.route("**/refresh/**", lambda route: route.abort())
    for wait in (5_000, 10_000):
        with page.expect_event("requestfailed"):
            page.clock.fast_forward(wait)
    expect(page.locator("#report-trouble")).to_contain_text("not the newest")
    page.unroute("**/refresh/**")
    mark_records_sent(news.records.exclude(status="sent"), at=timezone.now() - timedelta(hours=3))
    Message.objects.filter(pk=news.pk).update(state=State.SENT)
    with page.expect_response(lambda answer: "/refresh/" in answer.url):
        page.clock.fast_forward(20_000)
    expect(page.locator(".ob-bar-facts")).to_contain_text("Sent")
    expect(page.locator("#report-trouble")).to_be_hidden()


def test_teammates_pause_reaches_the_open_report_and_its_focus(console, live_server, news):
    page = console
    page.clock.install()
    page.goto(f"{live_server.url}/admin/messaging/message/{news.pk}/change/")
    page.get_by_role("button", name="Pause").focus()

    lifecycle.pause(news)
    page.clock.fast_forward(5_000)

    expect(page.get_by_role("button", name="Resume")).to_be_focused()
    expect(page.locator(".ob-going")).to_contain_text("Stopped after 2 of 8.")
    expect(page.locator("#report-said")).to_have_text("Paused: 25 % done")
