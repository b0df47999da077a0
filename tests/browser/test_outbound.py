"""Messages after the composer, in a real browser: the list, the report, its buttons and their permissions."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, expect

from audiences.models import Workspace
from delivery import tasks
from delivery.maintenance import sweep
from delivery.matching import launch
from messaging.models import Message, State
from outbound import roles
from outbound.composer import confirm
from outbound.roles import Role
from tests.browser.conftest import choose_attribute, press_and_confirm
from tests.browser.test_composer import compose
from tests.factories import AT, CustomerFactory, MessageFactory, SenderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
LIST = "/admin/messaging/message/"


def people(count: int, **facts: object) -> None:
    for n in range(count):
        CustomerFactory(user_id=f"p{n}", name=f"Person {n}", email=f"p{n}@acme.example", **facts)


def report(page: Page, origin: str, message: Message) -> Page:
    page.goto(f"{origin}/admin/messaging/message/{message.pk}/change/")
    return page


def words(page: Page, selector: str) -> str:
    """Return the text of an element on one line."""
    return " ".join(page.locator(selector).inner_text().split())


@pytest.fixture
def yes(console: Page) -> Page:
    """The console with every confirmation accepted."""
    console.on("dialog", lambda asked: asked.accept())
    return console


def test_sends_to_the_rest_once_the_number_is_typed(yes, live_server, post):
    SenderFactory()
    people(5)
    Workspace.current()
    Workspace.objects.update(confirm_above=2)
    page = yes
    compose(page, live_server.url)
    page.get_by_label("One-off").check()
    page.get_by_text("Try it on a few first").click()
    page.locator("[name=sample]").fill("2")
    press_and_confirm(page, "Try it on a few")
    expect(page.locator("body")).to_contain_text("goes to 2 people first")
    tasks.hand_over_due()
    assert len(post.mails) == 2

    page.get_by_role("button", name="Send to the rest").click()
    sheet, number = page.get_by_role("dialog"), page.get_by_label("To confirm, type the number of people")
    expect(number).to_be_focused()
    expect(sheet).to_contain_text("3 people will receive it")
    number.fill("5")
    sheet.get_by_role("button", name="Send to the rest").click()
    expect(sheet.get_by_role("alert")).to_contain_text(confirm.UNCONFIRMED)
    number.fill("3")
    sheet.get_by_role("button", name="Send to the rest").click()
    expect(page.locator("body")).to_contain_text("goes to the rest: 3 people")
    tasks.hand_over_due()

    assert sorted(mail["To"] for mail in post.mails) == [f"p{n}@acme.example" for n in range(5)]
    page.reload()
    assert "5 = 5 sent." in words(page, "main, body")
    expect(page.get_by_role("button", name="Send to the rest")).to_have_count(0)


def test_drifted_audience_is_refused_with_both_counts_and_keeps_the_text(console, live_server):
    SenderFactory()
    people(3)
    page = console
    compose(page, live_server.url, text="About Friday")
    page.get_by_label("One-off").check()
    expect(page.locator("#summary")).to_contain_text("3 match now")
    page.get_by_role("button", name="Set live").click()
    sheet = page.get_by_role("dialog")
    expect(sheet).to_contain_text("3 people will receive it")
    CustomerFactory(name="New", email="new@acme.example")
    sheet.get_by_role("button", name="Set live").click()

    expect(sheet.get_by_text("3 people matched at the review, 4 match now.")).to_be_visible()
    expect(sheet).to_contain_text("4 people will receive it")
    expect(page.locator("trix-editor")).to_contain_text("About Friday")
    assert not Message.objects.exists()
    sheet.get_by_role("button", name="Set live").click()
    expect(page.locator("body")).to_contain_text("is live and goes to 4 people.")


def test_scheduled_one_off_goes_live_at_its_time(console, live_server, post):
    SenderFactory()
    people(2)
    page = console
    compose(page, live_server.url)
    page.get_by_label("One-off").check()
    page.get_by_text("Schedule it for later").click()
    time = timezone.localtime(timezone.now()) + timedelta(days=2)
    page.locator("[name=scheduled_for]").fill(f"{time:%Y-%m-%dT09:30}")
    press_and_confirm(page, "Schedule")

    expect(page.locator("body")).to_contain_text(f"goes live {time:%A} {time.day} {time:%B %Y} at 09:30")
    expect(page.locator(".ob-bar-facts")).to_contain_text("Scheduled")
    page.goto(live_server.url + LIST)
    expect(page.locator("#result_list")).to_contain_text(f"Goes live {time:%a} {time.day} {time:%b}, 09:30")
    sweep.launch_scheduled(at=timezone.now())
    assert Message.objects.get().state == State.SCHEDULED
    Message.objects.update(scheduled_for=timezone.now() - timedelta(minutes=1))
    sweep.launch_scheduled(at=timezone.now())
    tasks.hand_over_due()
    assert len(post.mails) == 2


def test_finds_messages_by_tab_filter_and_search_and_pauses_several_at_once(console, live_server):
    people(1)
    for title, facts in {
        "Welcome": {"live": True},
        "Tips": {"live": True},
        "Sale": {"one_off": True},
        "Chat": {"in_app": True, "live": True},
    }.items():
        MessageFactory(title=title, **facts)
    page = console
    page.goto(live_server.url + LIST)
    shown = page.locator("#result_list .field-name")
    expect(shown).to_have_text(["Chat", "Sale", "Tips", "Welcome"])
    page.get_by_role("navigation", name="Ongoing or One-off").get_by_role("link", name="One-off").click()
    expect(shown).to_have_text(["Sale"])
    page.get_by_role("navigation", name="Ongoing or One-off").get_by_role("link", name="Ongoing").click()
    expect(shown).to_have_text(["Chat", "Tips", "Welcome"])
    page.goto(f"{page.url}&channel__exact=email")
    expect(shown).to_have_text(["Tips", "Welcome"])
    page.get_by_placeholder("Search by name").fill("tips")
    page.keyboard.press("Enter")
    expect(shown).to_have_text(["Tips"])
    assert "send_type__exact=ongoing" in page.url

    for verb, state in (("Pause", "Paused"), ("Resume", "Live")):
        page.goto(f"{live_server.url}{LIST}?send_type__exact=ongoing&channel__exact=email")
        for box in page.locator("#result_list input[name=_selected_action]").all():
            box.check()
        page.get_by_label("Select action to run").select_option(label=verb)
        page.get_by_role("button", name="Run").click()
        expect(page.locator("body")).to_contain_text(f"2 messages are {verb.lower()}d.")
        expect(page.locator("#result_list .field-state_chip")).to_have_text([state, state])
    assert Message.objects.get(title="Chat").state == State.LIVE


def test_report_is_read_and_its_recipients_exported(console, live_server, post):
    people(3)
    CustomerFactory(name="Bea", email="bea@acme.example", has_hard_bounced=True)
    CustomerFactory(name="Nell")
    news = MessageFactory(title="News", live=True, one_off=True, at=timezone.now())
    tasks.hand_over_due()
    page = report(console, live_server.url, news)

    expect(page.locator(".ob-figures")).to_contain_text("Sent3")
    expect(page.locator(".ob-sums tfoot")).to_have_text(re.compile(r"All\s*5\s*5"))
    assert "5 = 3 sent + 2 skipped." in words(page, "main, body")
    assert len(post.mails) == 3
    page.get_by_label("Status", exact=True).select_option(label="Skipped")
    page.get_by_role("button", name="Show", exact=True).click()
    shown = page.locator(".ob-who-table tbody tr")
    expect(shown).to_have_count(2)
    expect(shown.filter(has_text="Bea")).to_contain_text("Their email bounced")
    with page.expect_download() as file:
        page.get_by_role("link", name="Export as CSV").click()
    lines = Path(file.value.path()).read_text().splitlines()
    assert len(lines) == 3
    assert any("bea@acme.example" in line and "bounced" in line for line in lines)


def test_message_is_paused_edited_resumed_and_stopped_with_authors_of_versions(yes, live_server, post):
    people(1)
    message = MessageFactory(title="Welcome", live=True, body="<p>See you on Friday</p>")
    page = report(yes, live_server.url, message)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".ob-bar-facts")).to_contain_text("Paused")
    tasks.match_ongoing_messages()
    tasks.hand_over_due()
    assert post.mails == []

    page.get_by_role("link", name="Edit content").click()
    page.locator("trix-editor").click()
    page.keyboard.press("Control+a")
    page.keyboard.type("See you on Monday")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("2 versions")).to_be_visible()
    page.get_by_text("2 versions").click()
    expect(page.locator(".ob-versions")).to_contain_text("by boss. Changed: text")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".ob-bar-facts")).to_contain_text("Live")
    tasks.match_ongoing_messages()
    tasks.hand_over_due()
    assert "See you on Monday" in post.only().get_body(("plain",)).get_content()

    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".ob-bar-facts")).to_contain_text("Stopped")
    expect(page.locator(".ob-bar-buttons button")).to_have_text([re.compile("Duplicate")])
    assert "locked" in words(page, ".ob-lock")


def test_message_to_people_found_by_a_rule(console, live_server, post):
    SenderFactory()
    people(2, country="Ireland")
    CustomerFactory(name="Cyd", email="cyd@acme.example", country="France")
    page = console
    page.goto(f"{live_server.url}/admin/audiences/customer/")
    page.get_by_text("Filter by rules").click()
    page.get_by_role("button", name="Add a rule").click()
    choose_attribute(page, "Country")
    page.get_by_label("Value").fill("Ireland")
    page.get_by_role("button", name="Show these people").click()
    expect(page.get_by_text("2 people", exact=True)).to_be_visible()
    page.get_by_role("button", name="Message these people").click()

    expect(page.locator("#summary")).to_contain_text("2 match now, all will receive it")
    expect(page.get_by_label("One-off")).to_be_checked()
    page.get_by_label("From", exact=True).select_option(label="Ada <ada@acme.example>")
    page.get_by_label("Subject").fill("Hello Ireland")
    page.locator("trix-editor").click()
    page.keyboard.type("We are in Cork on Friday")
    press_and_confirm(page, "Set live")
    expect(page.locator("body")).to_contain_text("is live and goes to 2 people.")
    tasks.hand_over_due()
    assert sorted(mail["To"] for mail in post.mails) == ["p0@acme.example", "p1@acme.example"]


def test_direct_email_from_the_top_right_of_a_profile(console, live_server, post):
    SenderFactory()
    ada = CustomerFactory(name="Ada Byron", email="ada@byron.example")
    page = console
    page.goto(f"{live_server.url}/admin/audiences/customer/{ada.pk}/change/")
    button = page.get_by_role("link", name="Send a message")
    box = button.bounding_box()
    assert box["x"] + box["width"] > page.viewport_size["width"] - 40
    assert box["y"] < 60
    button.click()
    sheet = page.frame_locator("dialog iframe")
    expect(sheet.get_by_role("radio", name="In-app chat")).to_be_checked()
    sheet.get_by_role("radio", name="Email").check()
    sheet.get_by_label("From", exact=True).select_option(label="Ada <ada@acme.example>")
    sheet.get_by_label("Subject").fill("Your invoice")
    sheet.locator("trix-editor").click()
    page.keyboard.type("It is attached to your account.")
    sheet.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_text("The message is on its way to Ada Byron.")).to_be_visible()
    expect(page).to_have_url(re.compile(f"/customer/{ada.pk}/change/"))
    tasks.hand_over_due()

    assert (post.only()["To"], post.only()["Subject"]) == ("ada@byron.example", "Your invoice")
    page.reload()
    message = page.locator(".ob-feed li", has_text="Your invoice").first
    expect(message).to_contain_text("Sent")
    expect(message).to_contain_text("It is attached to your account.")
    page.goto(live_server.url + LIST)
    expect(page.locator("body")).not_to_contain_text("Your invoice")
    page.goto(f"{live_server.url}{LIST}?to=one_person")
    expect(page.locator("#result_list")).to_contain_text("To Ada Byron")


# Roles


@pytest.fixture
def as_role(context, live_server, transactional_db):
    """Return a page with a teammate of this role logged in."""
    roles.install()

    def enter(role: Role) -> Page:
        user = User.objects.create_user(f"{role}", f"{role}@acme.example", "pass", is_staff=True)
        roles.give_role(user, role)
        client = Client()
        client.force_login(user)
        cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}
        context.add_cookies([cookie])
        return context.new_page()

    return enter


def what_changes(page: Page) -> list[str]:
    """Return each visible control that changes data: forms that post, links to forms, and bulk actions."""
    return page.evaluate(
        """() => [
            ...document.querySelectorAll('form[method=post] :is(button:not([data-palette]), input[type=submit])'),
            ...document.querySelectorAll('main a, #main a, [role=main] a, header a, a.ob-button'),
            ...document.querySelectorAll('select[name=action] option:not([value=""])'),
        ].filter((one) => one.tagName === 'OPTION' || one.checkVisibility())
         .filter((one) => one.tagName !== 'A' ||
             /\\/(add|import|\\d+\\/(message|content|audience|delete))\\/$/.test(one.pathname))
         .filter((one) => !/\\/(logout|password_change)\\//.test(one.closest('form')?.action ?? ''))
         .map((one) => one.textContent.trim().replace(/\\s+/g, ' '))"""
    )


def test_viewer_sees_no_controls_that_change_data(as_role, live_server):
    people(3)
    draft, live = MessageFactory(title="Draft"), MessageFactory(title="Live", live=True)
    sampled = MessageFactory(title="Sampled", one_off=True)
    launch.launch(sampled, at=AT, sample=1)
    person = sampled.records.get().customer_id
    page = as_role(Role.VIEWER)
    addresses = [
        *("", "messaging/message/", "audiences/customer/", "audiences/audience/", "audiences/company/"),
        *("audiences/tag/", "messaging/sender/", "delivery/deliveryrecord/", "delivery/deliveryrecord/uncertain/"),
        *(f"messaging/message/{message.pk}/change/" for message in (draft, live, sampled)),
        *(f"audiences/customer/{person}/change/", f"audiences/customer/{person}/why/", "delivery/conversation/"),
    ]
    found = {}
    for address in addresses:
        assert page.goto(f"{live_server.url}/admin/{address}").status == 200, address
        found[address] = what_changes(page)

    assert {address: buttons for address, buttons in found.items() if buttons} == {}
    # The same check finds the controls of a Sender.
    assert "Pause" in " ".join(what_changes(report(as_role(Role.SENDER), live_server.url, live)))


def test_an_author_writes_a_draft_that_a_sender_sets_live(as_role, live_server):
    SenderFactory()
    people(1)
    page = as_role(Role.AUTHOR)
    compose(page, live_server.url)
    expect(page.locator("#summary")).to_contain_text("1 matches now")
    expect(page.get_by_text("a teammate with the role Sender or Admin can set it live")).to_be_visible()
    for name in ("Set live", "Schedule", "Try it on a few"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    page.get_by_role("button", name="Save draft").last.click()
    expect(page.locator("body")).to_contain_text("is saved as a draft")
    draft = Message.objects.get()
    assert draft.state == State.DRAFT

    page = report(as_role(Role.SENDER), live_server.url, draft)
    press_and_confirm(page, "Set live")
    expect(page.locator("body")).to_contain_text("is live")
    draft.refresh_from_db()
    assert draft.state == State.LIVE
