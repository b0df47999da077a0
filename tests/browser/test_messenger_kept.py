"""What the messenger keeps, whatever the page, the network and people's patience do: itself, words, focus, secrets."""

import pytest
from playwright.sync_api import expect

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
