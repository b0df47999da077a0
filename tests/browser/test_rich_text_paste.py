"""Text pasted from other programs, in a real browser: the clipboard holds HTML as those programs write it."""

import re
from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from messaging.content import sanitise

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CLIPBOARD = Path(__file__).parents[1] / "support" / "clipboard"
NOT_ON_THE_WEB = "images that are not on the web (insert them with “Insert image”)"
# The file with the HTML, and the notice. The HTML that is expected stands beside it.
NOTICES = {
    "word": f"Not taken over: fonts, {NOT_ON_THE_WEB}, links inside the document.",
    "google_docs": "Not taken over: fonts, text sizes.",
    "google_sheets": "Not taken over: fonts.",
    "excel": "Not taken over: fonts.",
    "libreoffice": f"Not taken over: fonts, {NOT_ON_THE_WEB}.",
    "outlook": f"Not taken over: fonts, {NOT_ON_THE_WEB}.",
}


@pytest.fixture
def page(console, live_server) -> Page:
    console.goto(live_server.url + reverse("admin:messaging_message_add"))
    expect(console.locator("trix-editor[data-ready]")).to_be_visible()
    return console


def paste(page: Page, html: str) -> str:
    """Copy the HTML, paste it into the empty editor and return its text."""
    editor = page.locator("trix-editor")
    # A page that copies may put any HTML on the clipboard, as programs do; the interface for scripts would clean it.
    page.evaluate(
        """(html) => document.addEventListener("copy", (event) => {
            event.preventDefault();
            event.stopImmediatePropagation();
            event.clipboardData.setData("text/html", html);
            event.clipboardData.setData("text/plain", "plain");
        }, { capture: true, once: true })""",
        html,
    )
    editor.evaluate("one => { one.editor.loadHTML(''); one.focus(); }")
    page.keyboard.press("Control+c")
    page.keyboard.press("Control+v")
    expect(editor).not_to_have_text("")
    return page.locator("input[name=body]").input_value().removesuffix("<div><br></div>")


def test_text_of_other_programs_is_taken_over_and_the_rest_is_named(page):
    assert {path.stem for path in CLIPBOARD.glob("*.html")} == {*NOTICES, *(f"{name}.expected" for name in NOTICES)}
    for name, notice in NOTICES.items():
        found = paste(page, (CLIPBOARD / f"{name}.html").read_text())

        assert found == (CLIPBOARD / f"{name}.expected.html").read_text().rstrip("\n"), name
        expect(page.get_by_role("status").filter(has_text="Not taken over")).to_have_text(notice)
        # The server keeps all of it.
        cleaned = sanitise(found).replace(' rel="noopener noreferrer"', "")
        assert re.sub(" style=.*?>", ">", cleaned) == re.sub(" style=.*?>", ">", found), name
        assert cleaned.count("style=") == found.count("style="), name


def test_each_kind_of_dropped_content_is_named_and_a_clean_paste_is_silent(page):
    found = paste(page, "<p>One <input value=x> <svg></svg><iframe src='https://x.example'></iframe> two</p>")
    assert found == "<p>One two</p>"
    notice = page.locator(".ob-pasted")
    expect(notice).to_have_text("Not taken over: videos and other embedded content, drawings, form fields.")

    assert paste(page, '<p>One <a href="https://x.example/">two</a></p>') == (
        '<p>One <a href="https://x.example/">two</a></p>'
    )
    expect(notice).to_have_text("")


# Each: pasted HTML, whose links, marks and alignment are at elements around blocks, and the text of the editor.
AROUND_BLOCKS = [
    ('<a href="https://x.example/"><h3>One</h3><p>Two</p>three</a>',
     '<h3><a href="https://x.example/">One</a></h3><p><a href="https://x.example/">Two</a></p>'
     '<div><a href="https://x.example/">three</a></div>'),
    ('<div style="color: red"><p>One</p><p style="color: blue">Two</p></div>',
     '<p><span style="color: red">One</span></p><p><span style="color: blue">Two</span></p>'),
    ('<div align="center"><p>One</p><p align="right">Two</p></div><center><p>Three</p></center>',
     '<p style="text-align: center">One</p><p style="text-align: right">Two</p>'
     '<p style="text-align: center">Three</p>'),
    ('<i><div><u><p>One</p></u></div></i>', "<p><em><u>One</u></em></p>"),
    ('<div align="center" style="color: red"><table><tr style="text-align: right"><td>One</td><th>Two</th></tr></table>'
     "</div>",
     '<table cellpadding="4"><tbody><tr><td style="text-align: right"><span style="color: red">One</span></td>'
     '<th style="text-align: right"><span style="color: red">Two</span></th></tr></tbody></table>'),
    ('<b style="font-weight: normal"><p>One</p></b>', "<p>One</p>"),
    ('<ul style="color: red"><li>One<ul><li>Two</li></ul></li></ul>',
     '<ul><li><span style="color: red">One</span><ul><li><span style="color: red">Two</span></li></ul></li></ul>'),
]  # fmt: skip


def test_links_marks_and_alignment_around_blocks_go_to_the_text_in_them(page):
    for html, expected in AROUND_BLOCKS:
        assert paste(page, html) == expected


def test_text_copied_in_the_editor_is_pasted_as_it_was(page):
    html = '<div style="margin: 0"><p style="text-align: center">a <span style="font-size: 20px">b</span></p></div>'
    editor = page.locator("trix-editor")
    editor.evaluate("(one, html) => { one.editor.loadHTML(html); one.focus(); }", html)
    page.keyboard.press("Control+a")
    page.keyboard.press("Control+c")
    editor.evaluate("one => one.editor.loadHTML('')")
    page.keyboard.press("Control+v")
    expect(editor).to_have_text("a b")

    assert page.locator("input[name=body]").input_value().removesuffix("<div><br></div>") == html
    expect(page.locator(".ob-pasted")).to_have_text("")
