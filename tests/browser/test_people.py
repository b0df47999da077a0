"""People in a real browser: a message from a phone, an import, and the “Why?” page."""

import json

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect

from audiences.models import Customer
from delivery import schedule
from delivery.models import DeliveryRecord, Reason
from tests.browser.conftest import AXE, choose_attribute
from tests.factories import CustomerFactory, EventFactory, MessageFactory, SegmentFactory, SenderFactory, rule

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def console(context, live_server, transactional_db) -> Page:
    schedule.install()
    client = Client()
    client.force_login(User.objects.create_superuser("boss", "boss@acme.example", "pass"))
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    return context.new_page()


def fits(page: Page) -> None:
    """Assert that nothing scrolls sideways and axe finds nothing serious."""
    page.wait_for_load_state()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate(AXE + ";0")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [wrong for wrong in found if wrong["impact"] in ("serious", "critical")]
    assert [(wrong["id"], [node["target"] for node in wrong["nodes"]]) for wrong in serious] == []


def test_message_to_one_customer_is_sent_from_a_phone(console, live_server):
    ada = CustomerFactory(name="Ada " + "Byron" * 20, email=f"{'ada' * 20}@acme.example")
    EventFactory(customer=ada)
    SenderFactory()
    page = console
    page.set_viewport_size(PHONE)
    page.goto(f"{live_server.url}/admin/audiences/customer/")
    fits(page)
    page.get_by_role("link", name="Ada").first.click()
    fits(page)

    icon = page.get_by_role("link", name="Send a message")
    box = icon.bounding_box()
    assert box["y"] < 80
    assert box["x"] + box["width"] > 340
    icon.click()
    sheet = page.frame_locator("dialog iframe")
    expect(sheet.get_by_role("radio", name="In-app chat")).to_be_checked()
    fits(page)
    sheet.locator("trix-editor").click()
    page.keyboard.type("Can I help you?")
    sheet.get_by_role("button", name="Send", exact=True).click()

    expect(page.get_by_text("will see the message as soon as they are in your app")).to_be_visible()
    fits(page)
    record = DeliveryRecord.objects.get()
    assert (record.customer, record.reason, record.message.format) == (ada, Reason.VISIT, "chat")


def test_console_can_be_installed_on_a_home_screen(console, live_server):
    page = console
    page.goto(f"{live_server.url}/admin/")
    address = page.locator("link[rel=manifest]").get_attribute("href")

    manifest = json.loads(page.request.get(live_server.url + address).text())

    assert (manifest["start_url"], manifest["display"]) == ("/admin/", "standalone")
    for icon in manifest["icons"]:
        answer = page.request.get(live_server.url + address.rpartition("/")[0] + "/" + icon["src"])
        assert answer.headers["content-type"] == "image/png"
        assert len(answer.body()) > 500


def test_file_is_checked_before_it_is_written(console, live_server):
    page = console
    page.goto(f"{live_server.url}/admin/audiences/customer/import/")
    fits(page)
    file = {"name": "people.csv", "mimeType": "text/csv", "buffer": b"Email,Name\nada@acme.example,Ada\nnobody,Eve\n"}
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_label("Attribute for the column Email")).to_have_value("email")
    fits(page)

    page.get_by_role("button", name="Check the file").click()

    expect(page.get_by_text("1 new customer.")).to_be_visible()
    expect(page.get_by_text("“nobody” is not a valid email address.")).to_be_visible()
    fits(page)
    assert not Customer.objects.exists()
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("heading", name="Result")).to_be_visible()
    assert Customer.objects.get().name == "Ada"


def test_list_is_filtered_by_a_rule_and_why_page_opens(console, live_server):
    CustomerFactory(name="Ada", country="Ireland", email="ada@acme.example")
    CustomerFactory(name="Bob", country="France")
    MessageFactory(live=True, title="Welcome", rules=[rule("country", "is", "France")])
    page = console
    page.goto(f"{live_server.url}/admin/audiences/customer/")
    page.get_by_text("Filter by rules").click()
    page.get_by_role("button", name="Add a rule").click()
    choose_attribute(page, "Country")
    page.get_by_label("Value").fill("Ireland")
    expect(page.get_by_text("1 matches now")).to_be_visible()
    page.get_by_role("button", name="Show these people").click()
    expect(page.get_by_text("1 person", exact=True)).to_be_visible()
    fits(page)
    page.get_by_role("link", name="Ada").first.click()

    page.get_by_role("link", name="Why?").first.click()
    page.get_by_label("Message", exact=True).select_option(label="Welcome (Email, Ongoing)")
    page.get_by_role("button", name="Show why").click()

    expect(page.get_by_text("the only rule is not met")).to_be_visible()
    expect(page.get_by_text("now: “Ireland”")).to_be_visible()
    fits(page)


@pytest.mark.parametrize("size", [PHONE, {"width": 1440, "height": 900}], ids=("phone", "desktop"))
def test_filtered_list_is_saved_as_a_segment_whose_size_the_list_of_segments_shows(console, live_server, size):
    CustomerFactory(name="Ada", country="Ireland")
    CustomerFactory(name="Bob", country="France")
    SegmentFactory(name="Irish")
    page = console
    page.set_viewport_size(size)
    page.goto(f"{live_server.url}/admin/audiences/customer/")
    page.get_by_text("Filter by rules").click()
    page.get_by_role("button", name="Add a rule").click()
    choose_attribute(page, "Country")
    page.get_by_label("Value").fill("Ireland")

    page.locator("summary", has_text="Save as segment").click()
    name = page.get_by_label("Name of the segment")
    expect(name).to_be_focused()
    name.fill("Irish")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("A segment with this name already exists.")
    expect(name).to_be_focused()
    fits(page)
    name.fill("In Ireland")
    page.keyboard.press("Enter")

    expect(page.get_by_text("The segment “In Ireland” is saved.")).to_be_visible()
    expect(page.get_by_text("1 person", exact=True)).to_be_visible()
    page.goto(f"{live_server.url}/admin/audiences/audience/")
    row = page.get_by_role("row").filter(has_text="In Ireland")
    expect(row.locator(".ob-size")).to_contain_text("Counted at")
    expect(page.get_by_role("row").filter(has_text="Everyone").locator(".ob-size")).to_contain_text("2")
    fits(page)


@pytest.mark.parametrize("table", ["messaging_sender", "audiences_customer"])
def test_phone_shows_long_values_completely(console, live_server, table):
    address = "the.customer.success.team.of.the.northern.region@mail.a-very-long-company-name.example"
    SenderFactory(name="Ada", email=address, reply_to=address)
    CustomerFactory(name="Ada", email=address, user_id="5f3e9a" * 10)
    page = console
    page.set_viewport_size(PHONE)
    page.goto(live_server.url + reverse(f"admin:{table}_changelist"))

    cut_off = page.locator(".result-list .data-row > :is(td, th)").evaluate_all(
        "cells => cells.filter((cell) => cell.scrollWidth > cell.clientWidth + 1).map((cell) => cell.innerText)"
    )

    assert cut_off == []
    fits(page)


@pytest.mark.parametrize("width", [1440, 390])
def test_file_is_imported_inspected_and_undone(console, live_server, tmp_path, settings, width):
    """The journey of a file with dates in one of two orders, an old encoding and a repeated customer."""
    settings.MEDIA_ROOT = tmp_path / "media"
    bob = CustomerFactory(user_id=None, email="bob@acme.example", name="Bob")
    people = tmp_path / "people.csv"
    rows = "ada@acme.example;Ada;Müller;03/04/2026\nbob@acme.example;Bob;Lee;05/06/2026\nada@acme.example;Ida;;\n"
    people.write_bytes(f"Email;First name;Last name;Signed up\n{rows}".encode("cp1252"))
    page = console
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(live_server.url + reverse("admin:customer_import_file"))
    # Unfold listens to file fields only once the page has loaded.
    page.wait_for_load_state("load")

    page.get_by_label("CSV file").set_input_files(people)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="Columns")).to_be_visible()
    expect(page.get_by_label("Encoding")).to_have_value("cp1252")
    order = page.get_by_label("Date format of the column Signed up")
    expect(order).to_have_value("day_first")
    expect(page.get_by_text("These dates also fit month first.")).to_be_visible()
    # The format is asked only of columns that are dates.
    expect(page.get_by_label("Date format of the column First name")).to_be_hidden()
    field = page.get_by_label("Attribute for the column Signed up")
    field.select_option("")
    expect(order).to_be_hidden()
    field.select_option("signed_up_at")
    order.select_option(label="Month first: 03/04/2026 is 4 Mar 2026")
    fits(page)
    page.get_by_role("button", name="Check the file").click()

    expect(page.get_by_text("1 line repeats a customer of an earlier line")).to_be_visible()
    expect(page.get_by_role("cell", name="“Ada Müller” from line 2 or before becomes “Ida Müller”.")).to_be_visible()
    assert not Customer.objects.filter(email="ada@acme.example").exists()
    fits(page)
    page.get_by_role("button", name="Import", exact=True).click()

    expect(page.get_by_role("heading", name="Result")).to_be_visible()
    ada = Customer.objects.get(email="ada@acme.example")
    assert (ada.name, ada.signed_up_at.date().isoformat()) == ("Ida Müller", "2026-03-04")
    page.get_by_role("link", name="Show the lines").click()
    expect(page.get_by_text("Name: “Bob” → “Bob Lee”")).to_be_visible()
    fits(page)
    Customer.objects.filter(pk=bob.pk).update(name="Rob")
    page.get_by_role("link", name="Back to the import").click()
    page.get_by_text("Undo the import").click()
    page.get_by_role("button", name="Undo this import").click()

    expect(page.get_by_text("Changed since the import, so not undone: Name.")).to_be_visible()
    ada.refresh_from_db()
    bob.refresh_from_db()
    assert (ada.archived_at is None, bob.name, bob.signed_up_at) == (False, "Rob", None)
    fits(page)
