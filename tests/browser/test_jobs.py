"""The five commonest jobs from the home page: limits of clicks and page loads. Typing is not counted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import FrameLocator, Locator, Page, expect

from audiences.models import Customer
from delivery import tasks
from delivery.conversations import threads
from messaging.models import Message, SendType, State
from tests.factories import CustomerFactory, MessageFactory, SenderFactory, rule
from tests.support.records import mark_records_sent

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
COUNT_CLICKS = "addEventListener('click', (event) => { if (event.isTrusted && event.detail) countClick(); }, true);"


@dataclass
class Walk:
    """A teammate at the home page; counts trusted clicks of the pointer and the pages that load."""

    page: Page
    clicks: int = 0
    loads: list[str] = field(default_factory=list)

    def begin(self, origin: str) -> None:
        self.page.expose_function("countClick", self.count_click)
        self.page.add_init_script(COUNT_CLICKS)
        self.page.goto(f"{origin}/admin/")
        self.page.wait_for_load_state()
        self.page.on("request", self.count_load)

    def count_click(self) -> None:
        self.clicks += 1

    def count_load(self, request) -> None:
        # A redirect is part of the load of the page that it leads to.
        is_page = request.is_navigation_request() and request.frame == self.page.main_frame
        if is_page and request.redirected_from is None:
            self.loads.append(request.url)

    def open_palette(self, typed: str) -> Locator:
        self.page.get_by_role("button", name="Search Ctrl K").click()
        self.page.keyboard.type(typed)
        return self.page.get_by_role("dialog", name="Search and actions").get_by_role("option")


@pytest.fixture
def ann(transactional_db) -> Customer:
    SenderFactory()
    CustomerFactory(name="Ben", email="ben@x.example", country="France")
    return CustomerFactory(name="Ann Lee", email="ann@x.example", user_id="ann", country="Spain")


def answer_a_customer(walk: Walk, ann: Customer) -> None:
    walk.page.get_by_role("link", name="Ann Lee").click()
    expect(walk.page.locator("#thread-parts")).to_contain_text("Where is my bill?")
    walk.page.locator("trix-editor").click()
    walk.page.keyboard.type("It is on its way.")
    walk.page.get_by_role("button", name="Send", exact=True).click()
    expect(walk.page.locator("#thread-parts")).to_contain_text("It is on its way.")


def write_to_one_person(walk: Walk, ann: Customer) -> None:
    walk.open_palette("ann").filter(has_text="Send a message to Ann Lee").click()
    sheet: FrameLocator = walk.page.frame_locator("dialog iframe")
    expect(sheet.locator("trix-editor")).to_be_focused()
    walk.page.keyboard.type("Welcome back.")
    sheet.get_by_role("button", name="Send", exact=True).click()
    expect(walk.page.get_by_text("Ann Lee will see the message")).to_be_visible()
    assert Message.objects.get(to_customer=ann)


def set_an_ongoing_email_live(walk: Walk, ann: Customer) -> None:
    page = walk.page
    page.get_by_role("link", name="New message").first.click()
    page.get_by_role("radio", name="Email").click()
    page.get_by_label("Subject").click()
    page.keyboard.type("Welcome")
    page.locator("trix-editor").click()
    page.keyboard.type("Good to have you.")
    page.get_by_role("button", name="Add a rule").click()
    page.keyboard.type("Country")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("Spain")
    page.get_by_role("button", name="Set live").click()
    page.get_by_role("dialog").get_by_role("button", name="Set live").click()
    expect(page.locator("body")).to_contain_text("is live")
    live = Message.objects.get(title="Welcome")
    assert (live.state, live.send_type) == (State.LIVE, SendType.ONGOING)
    assert live.audience.rules["rules"] == [{"attribute": "country", "operator": "is", "value": "Spain"}]
    tasks.match_ongoing_messages()
    assert list(live.records.values_list("customer__user_id", flat=True)) == ["ann"]


def ask_why_not(walk: Walk, ann: Customer) -> None:
    walk.open_palette("why ann").filter(has_text="Why did Ann Lee not get").click()
    walk.page.get_by_role("link", name="Pro tips").click()
    expect(walk.page.locator("body")).to_contain_text("Country is France")


def read_a_report(walk: Walk, ann: Customer) -> None:
    walk.page.get_by_role("link", name="Pro tips").click()
    expect(walk.page.locator(".ob-figure").first).to_contain_text("Sent")


# Clicks and page loads.
JOBS: dict[Callable[[Walk, Customer], None], tuple[int, int]] = {
    answer_a_customer: (3, 2),
    write_to_one_person: (3, 1),
    set_an_ongoing_email_live: (8, 2),
    ask_why_not: (3, 2),
    read_a_report: (2, 1),
}


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__name__)
def test_job_takes_few_clicks_and_page_loads(console, live_server, ann, job):
    at = timezone.now()
    if job is answer_a_customer:
        threads.open_by_customer(ann, body="Where is my bill?", at=at)
    if job in (ask_why_not, read_a_report):
        tips = MessageFactory(
            title="Pro tips", live=True, rules=[rule("country", "is", "France")], at=at - timedelta(hours=1)
        )
        mark_records_sent(tips.records.all(), at=at)
    walk = Walk(console)
    walk.begin(live_server.url)

    job(walk, ann)

    clicks, loads = JOBS[job]
    assert walk.clicks <= clicks
    assert len(walk.loads) <= loads, walk.loads
