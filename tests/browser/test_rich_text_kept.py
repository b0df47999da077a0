"""Parts of a text that the editor does not edit, in a real browser: an edit beside them leaves them alone."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from messaging.content import sanitise
from messaging.models import Message
from tests.support.rich_text import IMAGE, DocumentGrammar

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SEEDS = range(60)
# Parts that the grammar does not contain.
DETAILS = {
    "marks in marks": "<p><em><strong>x</strong> y</em> <s>s</s> <u>u <strong>bu</strong></u></p>",
    "a mark in a colour": '<p>a <span style="color: red">red <strong>bold</strong> red</span> b</p>',
    "a link in bold text": '<p><strong><a href="https://y.example/" title="t">b</a></strong></p>',
    "alignment": '<p align="right">R</p><h2 style="text-align:center;margin:0">H</h2><div style="margin: 0">D</div>',
    "lines": "<div>a</div><div>b</div><div><br></div><div>c</div>",
    "boxes": '<div style="padding: 1px"><div style="margin: 1px"><p>a</p><p>b</p></div><p>c</p></div>',
    "boxes of one kind": '<div style="margin: 0"><p>a</p></div><div style="margin: 0"><p>b</p></div>',
    "text beside a block": '<div style="color: red">text<p>b</p>tail</div>',
    "a caption with marks": f"<figure>{IMAGE}<figcaption>A <b>b</b></figcaption></figure>",
    "a linked image with a caption": f'<figure><a href="https://x.example/">{IMAGE}</a>'
    "<figcaption>Cap</figcaption></figure>",
    "a link around an image and text": f'<p><a href="https://x.example/">Text {IMAGE} more</a></p>',
    "a list": '<ol start="3" style="color: red"><li style="color: blue">a</li><li>b<ul><li>c</li></ul>d</li></ol>',
    "paragraphs in a list": "<ul><li><p>a</p><p>b</p></li><li><p>c</p></li></ul>",
    "two lists": "<ul><li>a</li></ul><ul><li>b</li></ul>",
    "directions": '<p>مرحبا</p><p dir="rtl">abc</p><ul><li>Hi</li><li>مرحبا</li></ul>',
    "marks in code": "<pre>a <strong>b</strong></pre><pre>x\n  y</pre>",
    "empty blocks": '<p></p><div style="height: 20px"></div><p><br></p><p>&nbsp;</p>',
    "a link as block": '<p><a href="https://x.example/" style="display: block; padding: 10px">Go</a></p>',
    "a style that undoes a style": '<p style="font-weight: bold">a <span style="font-weight: normal">b</span></p>',
    "Liquid": '<p>{% if plan %}a{% endif %} <span style="color: red">{{ plan }}</span></p>',
}
TYPE_A_LETTER = """(documents) => {
  const { editor, inputElement } = document.querySelector("trix-editor");
  return documents.map((html) => {
    editor.loadHTML(html);
    editor.setSelectedRange(5);
    editor.insertString("!");
    /* As after a change that the browser makes itself: Trix reads what it has drawn. */
    const { value } = inputElement;
    document.querySelector("trix-editor").editorController.reparse();
    editor.setSelectedRange(6);
    editor.insertString("?");
    return [value, inputElement.value];
  });
}"""
# Each: the HTML, the selected range, a call of the editor, and the HTML after it.
EDITS = [
    ('<p>a <span style="color: red">red</span> b</p>', [4], "insertString('X')",
     '<p>a <span style="color: red">reXd</span> b</p>'),
    ('<p>a <strong style="color: red">bold</strong></p>', [2, 6], "deactivateAttribute('bold')",
     '<p>a <span style="color: red">bold</span></p>'),
    ('<p>a <span style="font-weight: bold">bold</span></p>', [2, 6], "deactivateAttribute('bold')", "<p>a bold</p>"),
    ('<p>a <span style="color: red">red</span> b</p>', [0, 5], "activateAttribute('bold')",
     '<p><strong>a <span style="color: red">red</span></strong> b</p>'),
    ('<p><strong><a href="https://a.example/">link</a></strong></p>', [0, 4], "deactivateAttribute('href')",
     "<p><strong>link</strong></p>"),
    ('<p><strong><a href="https://a.example/" title="t">link</a></strong></p>', [0, 4],
     "activateAttribute('href', 'https://b.example/')",
     '<p><strong><a href="https://b.example/" title="t">link</a></strong></p>'),
    ('<p><a href="https://a.example/" style="color: red">link</a></p>', [4], "insertString(' more')",
     '<p><a href="https://a.example/" style="color: red">link</a> more</p>'),
    ('<p style="text-align: center">ab</p><p>c</p>', [1], "insertLineBreak()",
     '<p style="text-align: center">a</p><p style="text-align: center">b</p><p>c</p>'),
    ("<ul><li>a</li><li>b</li></ul>", [2], "increaseNestingLevel()", "<ul><li>a<ul><li>b</li></ul></li></ul>"),
    ("<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>", [2], "decreaseNestingLevel()",
     "<ul><li>a</li><li>b</li><li>c</li></ul>"),
    ("<ul><li><p>ab</p></li><li><p>c</p></li></ul>", [1], "insertLineBreak()",
     "<ul><li><p>a</p></li><li><p>b</p></li><li><p>c</p></li></ul>"),
    ('<div style="color: red"><p>a</p><p>b</p></div><p>c</p>', [1, 2], "insertString('X')",
     '<div style="color: red"><p>aXb</p></div><p>c</p>'),
    ('<p>a</p><table><tbody><tr><td colspan="2">1</td></tr></tbody></table>', [1],
     "insertString('X')",
     '<p>aX</p><table><tbody><tr><td colspan="2">1</td></tr></tbody></table>'),
]  # fmt: skip


@pytest.fixture
def page(console, live_server) -> Page:
    console.goto(live_server.url + reverse("admin:messaging_message_add"))
    expect(console.locator("trix-editor[data-ready]")).to_be_visible()
    return console


def test_a_typed_letter_changes_nothing_else_in_any_text(page):
    texts = [*DETAILS.values(), *(DocumentGrammar(seed).document() for seed in SEEDS)]

    changed = page.evaluate(TYPE_A_LETTER, [f"<p>Start</p>{text}<p>End</p>" for text in texts])

    for text, (first, second) in zip(texts, changed, strict=True):
        assert first == f"<p>Start!</p>{text}<p>End</p>"
        assert second == f"<p>Start!?</p>{text}<p>End</p>"
        # The server keeps it too, with the spaces of styles and with `rel` of its own.
        compact = re.sub(' style="[^"]*"', lambda style: re.sub("([:;]) ", r"\1", style[0]), first)
        assert sanitise(first).replace(' rel="noopener noreferrer"', "") == compact
    assert page.locator("trix-editor figure.attachment--content > :is(p, div, blockquote, center, ul, ol)").count() == 0


def test_edits_of_carried_parts_do_what_staff_expect(page):
    for html, selected, call, expected in EDITS:
        found = page.locator("trix-editor").evaluate(
            f"""(element, [html, selected]) => {{
                element.editor.loadHTML(html);
                element.editor.setSelectedRange(selected);
                element.editor.{call};
                return element.inputElement.value;
            }}""",
            [html, selected],
        )
        assert found == expected, (html, call)


def test_styles_that_were_opened_and_edited_beside_are_stored(page, live_server):
    red = '<span style="color:#cc0000;font-size:20px">red</span>'
    body = f'<p>Start</p><p style="text-align:center">H<sub>2</sub>O {red}</p>'
    page.locator("trix-editor").evaluate("(one, html) => one.editor.loadHTML(html)", body)
    page.locator("trix-editor").focus()
    page.keyboard.press("Control+Home")
    page.keyboard.type("A")
    page.get_by_role("button", name="Save draft").last.click()
    expect(page.locator("body")).to_contain_text("saved as a draft")

    assert Message.objects.get().version.body == body.replace("Start", "AStart")
