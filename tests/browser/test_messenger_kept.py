"""What the messenger keeps, whatever the page, the network and people's patience do: itself, words, focus, secrets."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from delivery import conversations
from tests.browser.test_messenger import (  # noqa: F401 - fixtures among them
    LAUNCHER,
    PNG,
    address,
    announcement,
    chat,
    eventually,
    html,
    ours,
    said_nothing_wrong,
    signed,
    visit,
    write,
)
from tests.factories import CustomerFactory

pytestmark = pytest.mark.django_db(transaction=True)

FIELD = "outbound-messenger .composer textarea"
MOVE = """() => { const moved = document.createElement("div");
  moved.append(...document.body.childNodes); document.body.append(moved) }"""


# Itself


def test_stays_when_the_page_moves_what_it_holds(visit, page):  # noqa: F811
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    page.locator(FIELD).fill("Do you")

    page.evaluate(MOVE)
    expect(page.locator(".panel")).to_be_visible()
    page.evaluate(MOVE)

    expect(page.locator(".panel")).to_be_visible()
    expect(page.locator(LAUNCHER)).to_be_visible()
    expect(page.locator(FIELD)).to_have_value("Do you")
    said_nothing_wrong(page)


def test_announcement_stays_when_the_page_moves_what_it_holds(visit, page):  # noqa: F811
    announcement()
    visit(user_id="ann", look={"hide_default_launcher": True})
    expect(page.locator("dialog")).to_be_visible()

    page.evaluate(MOVE)

    expect(page.locator("dialog")).to_be_visible()
    assert page.locator("dialog").evaluate("dialog => dialog.matches(':modal')")
    said_nothing_wrong(page)


# What is one person's


@pytest.mark.parametrize("command", ["update", "boot"])
def test_facts_the_page_holds_of_one_are_not_told_of_another(live_server, site, page, command):
    told: list[dict] = []
    page.on("request", lambda request: request.url.endswith("/ping") and told.append(request.post_data_json["user"]))
    one = signed(user_id="one", email="one@x.example", name="Ada One")
    held = f"<script>window.outboundSettings = {json.dumps({**one, 'alignment': 'left'})}</script>"
    page.goto(site.put("/", html(address(live_server), None, head=held)))
    expect(page.locator(LAUNCHER)).to_be_visible()

    two = signed(user_id="two")
    page.evaluate(f"Outbound('{command}', {json.dumps(two)})")

    eventually(lambda: len(told) == 2, page)
    assert told[1] == {**two, "alignment": "left"}


# The way back, and the focus


def test_first_words_of_a_visitor_leave_a_way_to_the_list(visit, page):  # noqa: F811
    visit()
    page.locator(LAUNCHER).click()
    write(page, "Do you ship?")

    page.get_by_role("button", name="All messages").click()

    expect(page.locator(".entry")).to_contain_text("Do you ship?")


def test_focus_goes_on_where_older_conversations_begin(visit, page):  # noqa: F811
    ann = CustomerFactory(user_id="ann")
    for number in range(60):
        conversations.open_by_customer(ann, body=f"Question {number}", at=timezone.now() - timedelta(days=number))
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    page.route("**/conversations?most=*", lambda route: route.abort(), times=1)
    older = page.get_by_role("button", name="Show older (10)")

    older.press("Enter")
    expect(page.locator(".list .trouble")).to_have_text("This could not be loaded. Try again.")
    expect(older).to_be_focused()
    older.press("Enter")

    expect(page.locator(".entry").nth(50)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".panel")).to_be_hidden()


@pytest.mark.parametrize("gone", ["help.remove()", "help.hidden = true"])
def test_focus_goes_to_the_launcher_where_what_opened_it_is_gone(visit, page, gone):  # noqa: F811
    visit(user_id="ann", look={"custom_launcher_selector": "#help"})
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<button id=help>Help</button>')")
    expect(page.locator(LAUNCHER)).to_be_visible()
    page.locator("#help").click()
    expect(page.locator(FIELD)).to_be_focused()

    page.evaluate(gone)
    page.keyboard.press("Escape")

    expect(page.locator(LAUNCHER)).to_be_focused()


def test_panel_is_modal_where_it_is_the_whole_screen(visit, page):  # noqa: F811
    page.set_viewport_size({"width": 390, "height": 844})
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".panel")).to_have_attribute("aria-modal", "true")

    page.set_viewport_size({"width": 800, "height": 844})

    expect(page.locator(".panel")).not_to_have_attribute("aria-modal", "true")


def test_who_comes_after_a_log_out_finds_the_messenger_closed(visit, page):  # noqa: F811
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".panel")).to_be_visible()

    page.evaluate(f"Outbound('shutdown'); Outbound('boot', {json.dumps(signed(user_id='bob'))})")

    expect(page.locator(f"{LAUNCHER} svg").first).to_be_visible()
