"""Attributes, events and refused names in a real browser, on a desk and on a phone."""

import pytest
from playwright.sync_api import Page, expect

from audiences.models import CustomAttribute, EventName, RefusedName
from tests.browser.test_people import console, fits  # noqa: F401 - a fixture
from tests.factories import AT, CustomAttributeFactory, EventSummaryFactory, MessageFactory, rule

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SIZES = [{"width": 1440, "height": 900}, {"width": 390, "height": 844}]


@pytest.mark.parametrize("size", SIZES, ids=["desk", "phone"])
def test_refused_name_is_accepted_with_one_click(console: Page, live_server, size):  # noqa: F811
    for number, (of, kind) in enumerate((("customer", "number"), ("company", "text"), ("event", ""))):
        RefusedName.objects.create(of=of, kind=kind, name=f"name-{number}", times=1200, first_at=AT, last_at=AT)
    RefusedName.objects.create(of="customer", kind="text", name="x" * 190, first_at=AT, last_at=AT)
    console.set_viewport_size(size)
    console.goto(f"{live_server.url}/admin/audiences/customattribute/")
    console.get_by_role("link", name="Refused names (4)").click()
    expect(console.get_by_role("heading", name="Refused names").first).to_be_visible()
    fits(console)
    console.get_by_role("button", name="Accept “name-0”").click()
    expect(console.get_by_text("“name-0” is accepted, as a number.")).to_be_visible()
    assert CustomAttribute.objects.get().kind == "number"


@pytest.mark.parametrize("size", SIZES, ids=["desk", "phone"])
def test_unused_attribute_is_retired_and_used_event_is_not(console: Page, live_server, size):  # noqa: F811
    plan = CustomAttributeFactory(name="plan")
    EventSummaryFactory(name="ordered")
    MessageFactory(title="Thanks", live=True, rules=[rule("event.ordered", "has_happened")])
    console.set_viewport_size(size)
    console.goto(f"{live_server.url}/admin/audiences/customattribute/{plan.pk}/change/")
    fits(console)
    console.get_by_role("button", name="Retire").click()
    expect(console.get_by_text("“plan” is retired. Its stored data stays.")).to_be_visible()
    console.get_by_role("link", name="Attributes").first.click()
    fits(console)
    console.get_by_role("link", name="Events").click()
    fits(console)
    console.get_by_role("link", name="ordered").click()
    expect(console.get_by_text("It cannot be retired while these use it")).to_be_visible()
    fits(console)
    assert EventName.objects.get().retired_at is None
