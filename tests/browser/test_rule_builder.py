"""The rule builder in a real browser: filters in the words people use."""

import pytest
from playwright.sync_api import expect

from messaging.models import Message
from tests.factories import CustomAttributeFactory, CustomerFactory, EventSummaryFactory, SenderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)], ids=["desk", "phone"])
def test_filters_are_built_from_presets_and_names(console, live_server, browser_errors, size):
    browser_errors.allow("net::ERR_FAILED|htmx:sendError")
    SenderFactory()
    CustomAttributeFactory(name="trial_ends_at", kind="date", label="End of trial")
    CustomAttributeFactory(name="plan")
    customer = CustomerFactory(name="Ada Byron", email="ada@x.example", attributes={"plan": "pro"})
    EventSummaryFactory(customer=customer, name="ordered")
    page = console
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(f"{live_server.url}/admin/messaging/message/add/")

    # A preset is a rule that can be edited, without negative numbers.
    page.get_by_role("button", name="Trial ends in N days").click()
    picker, operator = page.get_by_label("Attribute"), page.get_by_label("Operator")
    expect(picker).to_have_value("End of trial")
    expect(operator).to_have_value("exactly_days_from_now")
    page.get_by_label("Days").fill("5")
    operator.select_option("in_less_than_days")
    page.get_by_role("button", name="Remove this rule").click()

    # The value that the author meant.
    page.get_by_role("button", name="Add a rule").click()
    picker.fill("plan")
    page.get_by_role("option", name="plan Custom attributes", exact=True).click()
    page.get_by_label("Value").fill("Pro")
    page.get_by_label("Value").blur()
    page.get_by_role("button", name="pro", exact=True).click()
    expect(page.get_by_label("Value")).to_have_value("pro")
    expect(page.locator("#summary")).to_contain_text("1 matches now")
    expect(page.locator(".ob-names:visible")).to_contain_text("Ada Byron")

    # The count is marked until the next one has arrived, and if none can.
    page.route("**/forecast/**", lambda route: route.abort())
    page.get_by_label("Value").fill("pro ")
    expect(page.locator("#summary .ob-count-state")).to_contain_text("Outdated.")
    expect(page.locator("#summary .ob-count-state")).to_contain_text("could not be counted")
    page.unroute("**/forecast/**")
    page.get_by_label("Value").fill("pro")
    expect(page.locator("#summary .ob-count-state")).to_have_count(0)

    # An event that has not arrived yet, for people who do it after go-live.
    page.get_by_role("button", name="First time someone does X").click()
    second = picker.nth(1)
    second.fill("Signed.Contract")
    page.get_by_role("option", name="Event “signed-contract”").click()
    expect(second).to_have_value("Event “signed-contract”")
    expect(page.locator(".ob-warning:visible")).to_contain_text("No event of this name has arrived yet.")
    expect(page.get_by_label("Only people who start to match after it goes live")).to_be_checked()
    expect(page.locator("#review")).to_contain_text("Check the spelling")
    page.get_by_label("Name", exact=True).fill("Signed")
    page.get_by_role("button", name="Save draft").last.click()
    expect(page.locator("body")).to_contain_text("is saved as a draft")

    draft = Message.objects.get()
    assert draft.only_new_matches
    assert draft.audience.rules == {
        "match": "all",
        "rules": [
            {"attribute": "custom_attributes.plan", "operator": "is", "value": "pro"},
            {"attribute": "event.signed-contract", "operator": "has_happened"},
        ],
    }
