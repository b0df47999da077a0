"""The article's journeys with the real messenger in a browser and the official Python client."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone
from intercom.client import Client
from playwright.sync_api import Page, expect

from audiences import identity_verification
from audiences.models import Company, Customer, Integration, Workspace
from delivery.models import DeliveryRecord, Status
from messaging.models import Message
from tests.browser.conftest import Site
from tests.factories import CustomerFactory, MessageFactory, rule

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

LAUNCHER = "outbound-messenger .launcher"
SNIPPET = "outbound-messenger .snippet"
PAGE = """<!doctype html><html lang="en"><head><title>Shop</title></head><body><h1>Shop</h1><script>
(function (w, d) {
  if (typeof w.Outbound === "function") return;
  var q = (w.Outbound = function () { q.q.push(arguments); }); q.q = [];
  var s = d.createElement("script"); s.async = true; s.src = "%s/messenger/messenger.js";
  d.head.appendChild(s);
})(window, document);
Outbound("boot", %s);
</script></body></html>"""


@pytest.fixture
def server(settings, live_server, site) -> str:
    """Our server under another host name than the website, so that it is another origin."""
    address = live_server.url.replace("127.0.0.1", "localhost")
    settings.PUBLIC_URL = address
    settings.API_RATE_LIMIT = 0
    Workspace.current()
    Workspace.objects.update(allowed_origins=[site.origin])
    cache.clear()
    return address


@pytest.fixture
def intercom(server) -> Iterator[Client]:
    """The client on the customer's own server."""
    made = Client(personal_access_token=Integration.issue(name="The shop")[1])
    made.base_url = f"{server}/api"
    yield made
    made.http_session.close()


@pytest.fixture
def opens(server, site: Site, page: Page) -> Callable[..., Page]:
    """Open the website as a visitor: `opens(user_id="ann")`. Returns after the visit has been answered."""

    def go(**who: object) -> Page:
        user_hash = identity_verification.user_hash(Workspace.current().identity_secret, str(who["user_id"]))
        with page.expect_response("**/messenger/ping") as pinged:
            page.goto(site.put("/", PAGE % (server, json.dumps({**who, "user_hash": user_hash}))))
        assert pinged.value.status == 200
        expect(page.locator(LAUNCHER)).to_be_visible()
        return page

    return go


def not_seen_for_30_days() -> list[dict[str, object]]:
    return [rule("last_seen_at", "more_than_days_ago", 30)]


def chat(body: str, **facts: object) -> Message:
    return MessageFactory(in_app=True, body=body, live=True, at=timezone.now(), **facts)


def later(**how_much: float) -> None:
    """Move the clock of the 15-minute limit."""
    for customer in Customer.objects.exclude(checked_at=None):
        customer.checked_at -= timedelta(**how_much)
        customer.save(update_fields=["checked_at"])


def look(intercom: Client, user_id: str = "ann") -> None:
    list(intercom.conversations.find_all(type="user", user_id=user_id))


def test_rules_use_the_last_seen_time_from_before_this_login(intercom, opens):
    now = timezone.now()
    intercom.users.create(user_id="ann", name="Ann Lee", last_request_at=int((now - timedelta(days=40)).timestamp()))
    intercom.users.create(user_id="bob", last_request_at=int((now - timedelta(days=2)).timestamp()))
    chat("<p>Welcome back, {{ first_name }}</p>", rules=not_seen_for_30_days())

    page = opens(user_id="bob")
    assert page.locator(SNIPPET).count() == 0
    page.context.clear_cookies()
    page = opens(user_id="ann")

    expect(page.locator(SNIPPET)).to_contain_text("Welcome back, Ann")
    assert intercom.users.find(user_id="ann").last_request_at.replace(tzinfo=None) > (now - timedelta(days=1)).replace(
        tzinfo=None
    )
    # In their next session, they have been seen today, so another message of the same kind is not for them.
    Customer.objects.filter(user_id="ann").update(last_seen_at=now - timedelta(hours=1))
    chat("<p>Long time no see</p>", rules=not_seen_for_30_days())
    page = opens(user_id="ann")
    expect(page.locator(SNIPPET)).to_have_count(1)
    assert DeliveryRecord.objects.get().customer.user_id == "ann"


def test_get_matches_at_most_every_15_minutes_independently_of_visits(intercom, opens):
    intercom.users.create(user_id="ann", email="ann@x.example", custom_attributes={"plan": "free"})
    first = MessageFactory(rules=[rule("custom_attributes.plan", "is", "pro")], live=True)
    second = MessageFactory(rules=[rule("event_count.paid", "greater_than", 0)], live=True)
    opens(user_id="ann")
    look(intercom)
    assert not DeliveryRecord.objects.exists()

    intercom.users.create(user_id="ann", custom_attributes={"plan": "pro"})
    look(intercom)
    assert not DeliveryRecord.objects.exists()
    later(minutes=15)
    look(intercom)
    assert [record.message for record in DeliveryRecord.objects.all()] == [first]

    intercom.events.create(event_name="paid", user_id="ann", created_at=int(timezone.now().timestamp()))
    look(intercom)
    assert not second.records.exists()
    # A visit matches at any time and does not count against the 15-minute limit.
    opens(user_id="ann")
    assert second.records.get().status == Status.WAITING
    later(minutes=15)
    third = MessageFactory(rules=[rule("custom_attributes.plan", "is", "pro")], live=True)
    opens(user_id="bea")
    look(intercom)
    assert third.records.count() == 1
    assert first.records.count() == second.records.count() == 1


def test_company_message_is_shown_once_per_company_and_for_new_companies(intercom, opens):
    for name in ("Acme", "Bolt"):
        intercom.companies.create(company_id=name.lower(), name=name)
    intercom.users.create(user_id="ann", companies=[{"company_id": "acme"}, {"company_id": "bolt"}])
    CustomerFactory(user_id="none")
    chat("<p>News for {{ company.name }}</p>")

    page = opens(user_id="ann", company={"id": "acme", "name": "Acme"})
    expect(page.locator(SNIPPET)).to_have_count(2)
    assert sorted(page.locator(f"{SNIPPET} .opens span[dir]").all_inner_texts()) == ["News for Acme", "News for Bolt"]
    opens(user_id="ann")
    assert DeliveryRecord.objects.count() == 2

    page = opens(user_id="ann", company={"id": "cozy", "name": "Cozy"})
    page.locator(LAUNCHER).click()
    expect(page.locator("outbound-messenger .entry")).to_have_count(3)
    assert {company.name for company in Company.objects.filter(memberships__customer__user_id="ann")} == {
        *("Acme", "Bolt", "Cozy")
    }
    opens(user_id="none")
    assert DeliveryRecord.objects.filter(customer__user_id="none").count() == 0


def test_companys_last_seen_is_from_before_the_first_members_visit(intercom, opens):
    for user_id in ("ann", "bob"):
        intercom.users.create(user_id=user_id, companies=[{"company_id": "acme", "name": "Acme"}])
    Company.objects.update(last_seen_at=timezone.now() - timedelta(days=40))
    chat("<p>Is anybody there?</p>", rules=[rule("company.last_seen_at", "more_than_days_ago", 30)])

    expect(opens(user_id="ann", company={"id": "acme"}).locator(SNIPPET)).to_contain_text("Is anybody there?")

    assert timezone.now() - Company.objects.get().last_seen_at < timedelta(minutes=1)
    opens(user_id="bob", company={"id": "acme"})
    assert DeliveryRecord.objects.get().customer.user_id == "ann"
