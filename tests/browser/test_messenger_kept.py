"""The messenger keeps its element, drafts, focus and secrets, whatever the page and the network do."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from delivery.conversations import threads
from delivery.models import Conversation
from tests.browser.test_messenger import (  # noqa: F401 - fixtures among them
    LAUNCHER,
    PNG,
    ada,
    address,
    announcement,
    answer,
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


def test_messenger_stays_when_the_page_moves_it(visit, page):  # noqa: F811
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


def test_announcement_stays_when_the_page_moves_it(visit, page):  # noqa: F811
    announcement()
    visit(user_id="ann", look={"hide_default_launcher": True})
    expect(page.locator("dialog")).to_be_visible()

    page.evaluate(MOVE)

    expect(page.locator("dialog")).to_be_visible()
    assert page.locator("dialog").evaluate("dialog => dialog.matches(':modal')")
    said_nothing_wrong(page)


# Data of one person


@pytest.mark.parametrize("command", ["update", "boot"])
def test_facts_of_one_user_are_not_sent_for_another(live_server, site, page, command):
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


# Drafts


def test_unsent_message_stays_when_the_panel_is_closed_and_opened(visit, context, page):  # noqa: F811
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    context.set_offline(True)
    write(page, "Do you ship?")
    expect(page.locator(".pending")).to_contain_text("Not sent")
    page.keyboard.press("Escape")

    page.locator(LAUNCHER).click()

    expect(page.locator(".pending")).to_contain_text("Do you ship?")
    context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".part.own:not(.pending)")).to_contain_text("Do you ship?")
    assert Conversation.objects.count() == 1


def test_unsent_message_of_another_thread_keeps_its_images(visit, page, tmp_path):  # noqa: F811
    chat("<p>One</p>")
    chat("<p>Two</p>")
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    page.locator(".entry").first.click()
    expect(page.locator(".part")).to_have_count(1)
    held: list = []
    page.route("**/reply", lambda route: held.append(route), times=1)
    (tmp_path / "photo.png").write_bytes(PNG)
    page.locator("outbound-messenger input[type=file]").set_input_files(tmp_path / "photo.png")
    write(page, "Like this")
    eventually(lambda: held, page)
    page.get_by_role("button", name="All messages").click()

    held[0].abort()

    expect(page.locator(".entry").first).to_contain_text("Not sent: Like this")
    page.locator(".entry").last.click()
    expect(page.locator(".part")).to_have_count(1)
    page.get_by_role("button", name="All messages").click()
    page.locator(".entry").first.click()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".part.own:not(.pending) img")).to_have_attribute("alt", "photo.png")
    expect(page.locator(".pending")).to_have_count(0)


def test_message_refused_after_the_panel_was_closed_can_be_edited(visit, page):  # noqa: F811
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    held: list = []
    page.route(
        "**/conversations", lambda route: held.append(route) if route.request.method == "POST" else route.continue_()
    )
    write(page, "Do you ship?")
    eventually(lambda: held, page)
    page.keyboard.press("Escape")

    cors = {"Access-Control-Allow-Origin": "*"}
    held[0].fulfill(status=429, headers=cors, json={"errors": [{"message": "Slow down."}]})
    expect(page.locator(LAUNCHER)).to_have_attribute("aria-label", "Open messages, 1 not sent")
    page.locator(LAUNCHER).click()

    expect(page.locator(".pending")).to_contain_text("Not sent. Slow down.")
    page.get_by_role("button", name="Edit").click()
    expect(page.locator(FIELD)).to_have_value("Do you ship?")
    expect(page.locator(FIELD)).to_be_focused()
    expect(page.locator(".pending")).to_have_count(0)


def test_error_stays_when_an_answer_arrives(visit, ada, page, tmp_path):  # noqa: F811
    chat()
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".part")).to_have_count(1)
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.4")
    page.locator("outbound-messenger input[type=file]").set_input_files(tmp_path / "letter.pdf")

    answer(ada, "<p>Show us</p>")
    expect(page.locator(".part")).to_have_count(2)
    eventually(lambda: Conversation.objects.get().read, page)

    expect(page.locator(".composer .trouble")).to_contain_text("letter.pdf is not a PNG", timeout=1_000)


def test_message_being_sent_at_a_logout_is_not_shown_to_the_next_user(visit, page):  # noqa: F811
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    held: list = []
    page.route(
        "**/conversations", lambda route: held.append(route) if route.request.method == "POST" else route.continue_()
    )
    write(page, "My secret")
    eventually(lambda: held, page)
    page.evaluate(f"Outbound('shutdown'); Outbound('boot', {json.dumps(signed(user_id='bob'))})")
    expect(page.locator(LAUNCHER)).to_be_visible()

    held[0].abort()
    page.wait_for_timeout(300)

    expect(page.locator(LAUNCHER)).to_have_attribute("aria-label", "Open messages")
    assert "secret" not in page.locator("outbound-messenger").evaluate("host => host.shadowRoot.textContent")


# The way back, and the focus


def test_first_message_of_a_visitor_shows_the_way_to_the_list(visit, page):  # noqa: F811
    visit()
    page.locator(LAUNCHER).click()
    write(page, "Do you ship?")

    page.get_by_role("button", name="All messages").click()

    expect(page.locator(".entry")).to_contain_text("Do you ship?")


def test_focus_moves_to_the_first_older_conversation(visit, page):  # noqa: F811
    ann = CustomerFactory(user_id="ann")
    for number in range(60):
        threads.open_by_customer(ann, body=f"Question {number}", at=timezone.now() - timedelta(days=number))
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    page.route("**/conversations?most=*", lambda route: route.abort(), times=1)
    older = page.get_by_role("button", name="Show older (10)")

    older.press("Enter")
    expect(page.locator(".list .trouble")).to_have_text("Older conversations could not be loaded. Try again.")
    expect(older).to_be_focused()
    older.press("Enter")

    expect(page.locator(".entry").nth(50)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".panel")).to_be_hidden()


@pytest.mark.parametrize("gone", ["help.remove()", "help.hidden = true"])
def test_focus_moves_to_the_launcher_if_the_opener_is_gone(visit, page, gone):  # noqa: F811
    visit(user_id="ann", look={"custom_launcher_selector": "#help"})
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<button id=help>Help</button>')")
    expect(page.locator(LAUNCHER)).to_be_visible()
    page.locator("#help").click()
    expect(page.locator(FIELD)).to_be_focused()

    page.evaluate(gone)
    page.keyboard.press("Escape")

    expect(page.locator(LAUNCHER)).to_be_focused()


def test_panel_is_modal_on_a_small_screen(visit, page):  # noqa: F811
    page.set_viewport_size({"width": 390, "height": 844})
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".panel")).to_have_attribute("aria-modal", "true")

    page.set_viewport_size({"width": 800, "height": 844})

    expect(page.locator(".panel")).not_to_have_attribute("aria-modal", "true")


def test_messenger_is_closed_for_the_next_user(visit, page):  # noqa: F811
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".panel")).to_be_visible()

    page.evaluate(f"Outbound('shutdown'); Outbound('boot', {json.dumps(signed(user_id='bob'))})")

    expect(page.locator(f"{LAUNCHER} svg").first).to_be_visible()
