"""The composer in a real browser: the work of support staff, and the delivery of the message."""

import re

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from audiences.models import Audience, Customer, Workspace
from delivery import tasks
from delivery.matching import launch_job
from delivery.models import DeliveryRecord, Status
from messaging.models import Message, State
from outbound.composer import confirm
from outbound.console import lookups
from outbound.console.search import TOO_LONG
from tests.browser.conftest import choose_attribute, press_and_confirm, violations
from tests.factories import (
    CompanyFactory,
    CustomerFactory,
    CustomerTagFactory,
    MembershipFactory,
    MessageFactory,
    SegmentFactory,
    SenderFactory,
    TagFactory,
)

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf50"
    "0f0003860180b5fd4b8f0000000049454e44ae426082"
)


def compose(page: Page, address: str, *, subject: str = "Hello {{ first_name }}", text: str = "Welcome") -> None:
    """Open the composer and enter the content."""
    page.goto(f"{address}/admin/messaging/message/add/")
    page.get_by_label("Name", exact=True).fill("Welcome")
    page.get_by_label("From", exact=True).select_option(label="Ada <ada@acme.example>")
    page.get_by_label("Subject").fill(subject)
    page.locator("trix-editor").click()
    page.keyboard.type(text)


def test_ongoing_email_is_composed_set_live_and_delivered(console, live_server, post):
    SenderFactory()
    CustomerFactory(user_id="ada", name="Ada Byron", email="ada@byron.example", attributes={})
    CustomerFactory(user_id="bob", name="Bob", email="bob@else.example")
    page = console
    compose(page, live_server.url)
    page.locator(".ob-text").get_by_role("button", name="Insert variable").click()
    page.locator("#variable-text").select_option("first_name")
    page.locator("#default-text").fill("there")
    page.locator(".ob-text").get_by_role("button", name="Insert", exact=True).click()
    page.get_by_label("Ongoing").check()
    page.get_by_role("button", name="Add a rule").click()
    choose_attribute(page, "Email")
    page.get_by_label("Operator").select_option("contains")
    page.get_by_label("Value").fill("@byron.example")
    expect(page.locator("#summary")).to_contain_text("1 matches now, and will receive it")
    press_and_confirm(page, "Set live")
    expect(page.locator("body")).to_contain_text("is live")

    tasks.match_ongoing_messages()
    tasks.hand_over_due()

    mail = post.only()
    assert (mail["To"], mail["Subject"]) == ("ada@byron.example", "Hello Ada")
    assert "WelcomeAda" in mail.get_body().get_content().replace(" ", "")
    assert "Unsubscribe" in mail.get_body(("plain",)).get_content()
    page.reload()
    expect(page.locator(".ob-figures")).to_contain_text("Sent1")


def test_preview_as_a_chosen_customer_marks_missing_values(console, live_server):
    SenderFactory()
    grace = CustomerFactory(user_id="grace", name="Grace Hopper", email="grace@navy.example", phone="")
    for name in ("Navy", "Yale"):
        MembershipFactory(customer=grace, company=CompanyFactory(name=name))
    CustomerFactory(user_id="newest", name="Newest", email="new@acme.example")
    page = console
    compose(page, live_server.url, text="Dear {{ first_name }} of {{ company.name }}, phone {{ phone }}")
    page.get_by_label("Preview as a customer").fill("grac")
    page.get_by_role("option", name="Grace Hopper").click()

    frame = page.frame_locator(".ob-frame iframe")
    expect(frame.locator("body")).to_contain_text("Dear Grace of Navy")
    expect(frame.locator("mark")).to_have_text("phone")
    expect(page.locator("#preview-shown")).to_contain_text("Hello Grace")
    expect(page.locator("#preview-shown")).to_contain_text("no default: phone")
    page.get_by_label("Company", exact=True).select_option(label="Yale")
    expect(frame.locator("body")).to_contain_text("of Yale")
    page.get_by_role("button", name="Phone").click()
    assert page.locator(".ob-frame iframe").bounding_box()["width"] <= 375
    assert page.locator(".ob-frame iframe").get_attribute("sandbox") == ""


def test_search_that_is_too_long_shows_the_reason(console, live_server, monkeypatch, browser_errors):
    browser_errors.allow(r"Failed to load resource.*[?&]q=a")
    monkeypatch.setattr(lookups, "MENU_LIMIT", 1)
    SenderFactory()
    segment, _ = SegmentFactory(name="Customers of Acme"), SegmentFactory()
    page = console
    compose(page, live_server.url)

    page.get_by_label("Preview as a customer").fill("a " * 11)
    expect(page.get_by_text(TOO_LONG)).to_be_visible()
    page.get_by_label("Preview as a customer").fill("a")
    expect(page.get_by_text(TOO_LONG)).to_have_count(1)
    expect(page.get_by_text(TOO_LONG)).to_be_hidden()
    page.get_by_role("button", name="Add a rule").click()
    choose_attribute(page, "Segment")
    page.get_by_label("Value", exact=True).press_sequentially("a " * 11)
    expect(page.get_by_text(TOO_LONG)).to_be_visible()
    page.get_by_label("Value", exact=True).fill(segment.name)
    expect(page.get_by_role("option", name=segment.name)).to_be_visible()


def test_customer_list_stays_closed_after_a_fast_choice(console, live_server):
    SenderFactory()
    CustomerFactory(name="Grace Hopper", email="grace@navy.example")
    page = console
    compose(page, live_server.url)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/message/people/" in request.url else None)
    search = page.get_by_label("Preview as a customer")
    search.focus()
    expect(page.get_by_role("option", name="Grace Hopper")).to_be_visible()
    # Typed and chosen within the input's debounce time.
    search.evaluate(
        "(field) => { field.value = 'gr'; field.dispatchEvent(new Event('input', { bubbles: true }));"
        " document.querySelector('#preview-found [role=option]')"
        ".dispatchEvent(new MouseEvent('mousedown', { bubbles: true })); }"
    )
    expect(page.locator("#preview-shown")).to_contain_text("As Grace Hopper")
    page.wait_for_timeout(600)

    expect(page.locator("#preview-found")).to_be_hidden()
    assert len(asked) == 1


def test_test_email_creates_no_record(console, live_server, post):
    SenderFactory()
    ada = CustomerFactory(name="Ada Byron", email="ada@byron.example")
    page = console
    compose(page, live_server.url)
    page.get_by_role("button", name="Send a test to me").click()

    expect(page.get_by_text("The test is on its way to boss@acme.example.")).to_be_visible()
    assert (post.only()["To"], post.only()["Subject"]) == ("boss@acme.example", "[Test] Hello Ada")
    assert not DeliveryRecord.objects.exists()
    assert not Message.objects.exists()
    assert Customer.objects.get(pk=ada.pk).last_contacted_at is None


def test_delivery_times_are_set_with_pointer_and_keyboard(console, live_server):
    SenderFactory()
    page = console
    compose(page, live_server.url)
    cell = lambda name: page.get_by_role("gridcell", name=name, exact=True)  # noqa: E731
    cell("Monday 09:00").scroll_into_view_if_needed()
    start, end = cell("Monday 09:00").bounding_box(), cell("Tuesday 11:30").bounding_box()
    page.mouse.move(start["x"] + 2, start["y"] + 4)
    page.mouse.down()
    page.mouse.move(end["x"] + 2, end["y"] + 4, steps=8)
    page.mouse.up()
    page.keyboard.press("Tab")
    cell("Monday 09:00").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    expect(page.locator("#window-words")).to_contain_text("Monday 08:30 to 12:00; Tuesday 09:00 to 12:00")
    expect(page.locator("#window-words")).to_contain_text("open")
    page.get_by_role("button", name="Save draft").click()

    expect(page.locator("body")).to_contain_text("is saved as a draft")
    assert Message.objects.get().window == [
        {"weekday": 0, "from": "08:30", "to": "12:00"},
        {"weekday": 1, "from": "09:00", "to": "12:00"},
    ]


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_large_launch_is_confirmed_in_the_final_sheet(console, live_server, size, browser_errors):
    browser_errors.allow("Failed to load resource.*/(sheet|add)/")
    SenderFactory()
    Workspace.current()
    Workspace.objects.update(confirm_above=2)
    for n in range(11):
        CustomerFactory(name=f"Person {n:02}", email=f"{n}@acme.example", unsubscribed_from_emails=n == 10)
    page = console
    page.set_viewport_size({"width": size[0], "height": size[1]})
    compose(page, live_server.url, subject="")
    page.get_by_label("One-off").check()
    set_live = page.get_by_role("button", name="Set live")
    sheet, number = page.get_by_role("dialog"), page.get_by_label("To confirm, type the number of people")

    # A problem leads to its field.
    set_live.click()
    expect(sheet).to_contain_text("An email needs a subject.")
    expect(sheet.get_by_role("button", name="Set live")).to_have_count(0)
    sheet.get_by_role("link", name="An email needs a subject.").click()
    expect(sheet).to_have_count(0)
    expect(page.get_by_label("Subject")).to_be_focused()
    page.keyboard.type("Hello")

    # Escape closes the sheet, and the focus returns to the button.
    set_live.focus()
    page.keyboard.press("Enter")
    expect(number).to_be_focused()
    expect(sheet).to_contain_text(
        re.compile(r"10 people will receive it\s+11 match. Left out:\s+Unsubscribed from emails\s*1")
    )
    expect(sheet.get_by_role("link", name=re.compile("^Person"))).to_have_text(
        [f"Person {n:02}" for n in range(9, -1, -1)]
    )
    expect(sheet.get_by_role("link", name="Person 10")).to_have_count(0)
    assert not violations(page, within="'#sheet-dialog'")
    box = sheet.bounding_box()
    assert (box["width"], box["height"]) == size if size[0] < 641 else box["height"] <= size[1]
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    expect(set_live).to_be_focused()

    # A refused launch loses nothing and makes no draft.
    set_live.click()
    number.fill("9")
    number.press("Enter")
    expect(sheet.get_by_role("alert")).to_contain_text(confirm.UNCONFIRMED)
    expect(number).to_be_focused()
    CustomerFactory(name="New", email="new@acme.example")
    Workspace.objects.update(drift_percent=0)
    number.fill("10")
    number.press("Enter")
    expect(sheet.get_by_role("alert")).to_contain_text("11 people matched at the review, 12 match now.")
    page.route("**/add/", lambda route: route.abort())
    number.fill("11")
    number.press("Enter")
    expect(sheet.get_by_role("alert").first).to_contain_text("nothing was sent")
    assert not Message.objects.exists()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Welcome")
    expect(page.locator("trix-editor")).to_contain_text("Welcome")
    page.unroute("**/add/")
    number.press("Enter")

    expect(page.locator("body")).to_contain_text("is live and goes to 11 people. 1 more matches but is left out")
    assert Message.objects.get().state == State.LIVE


def test_sample_is_sent_to_the_rest_or_made_ongoing(console, live_server, post):
    SenderFactory()
    for n in range(5):
        CustomerFactory(user_id=str(n), name=f"Customer {n}", email=f"{n}@acme.example")
    page = console
    compose(page, live_server.url)
    page.get_by_label("One-off").check()
    page.get_by_text("Try it on a few first").click()
    page.locator("[name=sample]").fill("2")
    press_and_confirm(page, "Try it on a few")
    expect(page.locator("body")).to_contain_text("goes to 2 people first")
    tasks.hand_over_due()
    page.get_by_role("button", name="Make it ongoing").click()
    expect(page.locator("body")).to_contain_text("leaves out everyone who already received the message")
    expect(page.locator("#summary")).to_contain_text("3 match now, all will receive it")
    press_and_confirm(page, "Set live")
    expect(page.locator("body")).to_contain_text("is live")
    tasks.match_ongoing_messages()
    tasks.hand_over_due()

    assert sorted(mail["To"] for mail in post.mails) == [f"{n}@acme.example" for n in range(5)]


def test_image_is_inserted_and_rules_are_saved_as_a_segment(console, live_server, tmp_path, settings):
    settings.MEDIA_ROOT, settings.PUBLIC_URL = tmp_path, live_server.url
    SenderFactory()
    CustomerFactory(email="ada@byron.example", country="Ireland")
    page = console
    compose(page, live_server.url)
    picture = tmp_path / "dot.png"
    picture.write_bytes(PNG)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Insert image").click()
    chooser.value.set_files(picture)
    image = page.frame_locator(".ob-frame iframe").locator("img")
    expect(image).to_have_attribute("src", re.compile(rf"{live_server.url}/pictures/[\w-]+\.png"))
    assert page.request.get(image.get_attribute("src")).body() == PNG
    page.get_by_role("button", name="Add a rule").click()
    choose_attribute(page, "Country")
    page.get_by_label("Value").fill("Ire")
    expect(page.locator("datalist option")).to_have_attribute("value", "Ireland")
    page.get_by_label("Value").fill("Ireland")
    assert not [wrong for wrong in violations(page) if "color-contrast" in wrong or "label" in wrong]
    page.get_by_label("Save as segment").fill("In Ireland")
    page.get_by_role("button", name="Save segment").click()
    expect(page.get_by_text("The segment “In Ireland” is saved.")).to_be_visible()

    assert Audience.objects.segments().get().rules["rules"][0]["value"] == "Ireland"
    assert not DeliveryRecord.objects.filter(status=Status.SENT).exists()


def test_tag_is_found_by_typing(console, live_server, monkeypatch):
    monkeypatch.setattr(lookups, "MENU_LIMIT", 3)
    SenderFactory()
    tags = [TagFactory(name=f"Cohort {n:02}") for n in range(30)]
    CustomerTagFactory(customer__name="Ada", tag=tags[27])
    page = console
    compose(page, live_server.url)
    page.get_by_label("Ongoing").check()
    page.get_by_role("button", name="Add a rule").click()
    choose_attribute(page, "Tag")
    field = page.get_by_role("combobox", name="Value")
    field.press_sequentially("cohort 27")
    field.press("Enter")

    expect(field).to_have_value("Cohort 27")
    expect(page.locator("#summary")).to_contain_text("1 matches now")
    assert page.url.endswith("/add/")
    assert not Message.objects.exists()
    page.get_by_role("button", name="Save draft").last.click()
    expect(page.locator("body")).to_contain_text("saved as a draft")
    expect(page.get_by_role("combobox", name="Value")).to_have_value("Cohort 27")
    assert Message.objects.get().audience.rules["rules"][0]["value"] == tags[27].pk


@pytest.mark.parametrize("are_many", [False, True])
def test_starts_from_a_segment(console, live_server, monkeypatch, are_many):
    monkeypatch.setattr(lookups, "MENU_LIMIT", 3 if are_many else 100)
    SenderFactory()
    for n in range(9):
        rules = {"match": "all", "rules": [{"attribute": "name", "operator": "is", "value": f"Person {n}"}]}
        SegmentFactory(name=f"Segment {n}", rules=rules)
    page = console
    compose(page, live_server.url)
    field = page.get_by_label("Start from a segment")
    if are_many:
        field.press_sequentially("segment 7")
        page.get_by_role("option", name="Segment 7").click()
    else:
        field.select_option("Segment 7")

    expect(page.get_by_label("Value", exact=True)).to_have_value("Person 7")
    expect(field).to_have_value("")
    page.get_by_label("Value", exact=True).fill("Person 8")
    assert "Person 8" in page.locator("input[name=rules]").input_value()


def test_refused_form_shows_its_first_error_on_the_screen(console, live_server):
    page = console
    page.set_viewport_size({"width": 390, "height": 300})
    page.goto(f"{live_server.url}/admin/messaging/message/add/")
    page.locator("trix-editor").fill("Hello {{ first_name")
    page.get_by_role("button", name="Save draft").last.click()

    expect(page.locator(".ob-error:visible").first).to_be_in_viewport()


def test_enter_in_a_text_field_never_submits_the_form(console, live_server):
    SenderFactory()
    CustomerFactory(name="Ada Byron", email="ada@byron.example")
    page = console
    compose(page, live_server.url)
    page.get_by_label("One-off").check()
    posted = []
    page.on(
        "request",
        lambda asked: (
            posted.append(asked.url) if asked.is_navigation_request() and asked.frame == page.main_frame else None
        ),
    )
    page.get_by_label("Name", exact=True).press("Enter")
    page.get_by_label("Subject").press("Enter")
    search = page.get_by_label("Preview as a customer")
    search.press_sequentially("ada")
    search.press("Enter")
    expect(page.locator("#preview-shown")).to_contain_text("As Ada Byron")
    search.fill("nobody at all")
    search.press("Enter")
    page.get_by_role("button", name="Add a rule").click()
    choose_attribute(page, "Name")
    page.get_by_label("Value", exact=True).fill("Ada")
    page.get_by_label("Value", exact=True).press("Enter")
    page.wait_for_load_state("networkidle")

    assert posted == []
    assert not Message.objects.exists()


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_preview_frames_use_the_messages_own_style(console, live_server, size):
    # A full-page screenshot leaves out frames outside the viewport, so this takes the viewport.
    CustomerFactory(name="Ada Byron", email="ada@byron.example")
    live = MessageFactory(live=True, body="<p>As it was written</p>")
    draft = MessageFactory(title="Welcome", subject="Hi", body="<p>Hello {{ first_name }} and {{ city }}</p>")
    page = console
    page.set_viewport_size({"width": size[0], "height": size[1]})
    for message, words in ((live, "As it was written"), (draft, "Hello Ada")):
        page.goto(f"{live_server.url}/admin/messaging/message/{message.pk}/change/")
        frame = page.locator("main iframe, iframe").first
        frame.scroll_into_view_if_needed()
        inside = frame.content_frame
        expect(inside.locator("body")).to_contain_text(words)
        # The policy of the outer page does not block the frame's styles.
        assert inside.locator("body").evaluate("(body) => getComputedStyle(body).fontFamily") != "Times New Roman"
    mark = inside.locator("mark")
    assert mark.evaluate("(mark) => getComputedStyle(mark).backgroundColor") == "rgb(253, 230, 138)"
    shown = frame.screenshot()
    inside.locator("body").evaluate("(body) => body.replaceChildren()")
    assert frame.screenshot() != shown


def test_an_email_is_previewed_at_full_size_in_light_and_dark(console, live_server):
    draft = MessageFactory(title="Welcome", subject="Hi", body="<p>Hello</p>")
    page = console
    page.goto(f"{live_server.url}/admin/messaging/message/{draft.pk}/change/")
    expect(page.locator("#preview-shown iframe").content_frame.locator("p").first).to_have_text("Hello")
    page.get_by_role("button", name="Full size").click()
    dialog = page.get_by_role("dialog", name="Preview")
    inside = dialog.locator("iframe").content_frame
    expect(inside.locator("p").first).to_have_text("Hello")
    assert dialog.locator("iframe").bounding_box()["width"] == 600
    dialog.get_by_role("button", name="Phone").click()
    assert dialog.locator("iframe").bounding_box()["width"] == 375
    # At its own size, not scaled.
    assert dialog.locator("iframe").evaluate("(one) => one.offsetWidth") == 375
    assert inside.locator("html").evaluate("(one) => getComputedStyle(one).filter") == "none"

    dialog.get_by_role("button", name="Dark").click()
    expect(dialog.get_by_text("changes colours in its own way")).to_be_visible()
    expect(inside.locator("html")).to_have_css("filter", "invert(1) hue-rotate(180deg)")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_progress_of_a_large_launch_survives_a_failed_request(console, live_server, browser_errors):
    browser_errors.allow("Failed to load resource.*/launching/")
    CustomerFactory(email="ada@acme.example")
    message = MessageFactory(one_off=True)
    launch_job.request_launch(message, at=timezone.now())
    page = console
    looks = []

    def fail_at_first(route) -> None:
        looks.append(route)
        route.abort() if len(looks) == 1 else route.continue_()

    page.route("**/launching/", fail_at_first)
    page.goto(f"{live_server.url}/admin/messaging/message/{message.pk}/change/")
    heading = page.get_by_role("status").filter(has_text="Going live").element_handle()
    expect(page.locator("#launching")).to_contain_text("it is")

    assert heading.evaluate("one => one.isConnected")
    launch_job.launch(message.pk, at=timezone.now())
    expect(page.locator("#launching")).to_have_count(0)
    expect(page.locator(".ob-figures")).to_be_visible()


def test_draft_and_live_message_are_tagged_without_losing_typed_text(console, live_server):
    draft, live = MessageFactory(title="News"), MessageFactory(title="Welcome", live=True)
    page = console
    page.goto(f"{live_server.url}/admin/messaging/message/{draft.pk}/change/")
    page.get_by_label("Subject").fill("Typed and not saved")
    page.get_by_label("Add a tag").fill("Launch")
    page.keyboard.press("Enter")

    expect(page.get_by_role("button", name="Remove the tag Launch")).to_be_visible()
    expect(page.get_by_label("Add a tag")).to_be_focused()
    expect(page.get_by_label("Subject")).to_have_value("Typed and not saved")
    assert violations(page, within="'#message-tags'") == []

    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{live_server.url}/admin/messaging/message/{live.pk}/change/")
    page.get_by_label("Add a tag").fill("launch")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("button", name="Remove the tag Launch")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Remove the tag Launch").click()
    expect(page.get_by_role("button", name="Remove the tag Launch")).to_have_count(0)
    assert [list(one.tags.values_list("name", flat=True)) for one in (draft, live)] == [["Launch"], []]
