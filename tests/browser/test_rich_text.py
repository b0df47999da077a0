"""The rich-text editor in a real browser: pasted and edited content is stored unchanged."""

import re
from collections.abc import Callable

import pytest
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from delivery.conversations import threads
from delivery.models import ConversationPart
from messaging.models import Message
from tests.factories import CustomerFactory, MessageFactory, SenderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PLACES = ("composer", "send a message", "inbox")
# Neighbouring blocks of one kind, at the top level and nested.
NEIGHBOURS = {
    "paragraphs": "<p>First para</p><p>Second para</p><p>Third</p>",
    "quotes": "<blockquote>First</blockquote><blockquote>Second</blockquote>",
    "quoted paragraphs": "<blockquote><p>First</p><p>Second</p></blockquote><p>Third</p>",
    "code": "<pre>First</pre><pre>Second</pre>",
    "headings": "<h1>One</h1><h1>Two</h1><h2>One</h2><h2>Two</h2><h3>One</h3><h3>Two</h3><h4>One</h4><h4>Two</h4>",
    "lists": "<ul><li>One</li><li>Two</li></ul><ol><li>Three</li><li>Four</li></ol>",
    "mixed": "<h2>News</h2><p>First</p><p><strong>Second</strong> para</p><ul><li>One</li></ul><p>Third</p>",
}
# Includes blocks that the editor cannot create itself.
KEPT = {
    **NEIGHBOURS,
    "a table": "<p>Prices</p><table><tbody><tr><td>One</td><td>1 €</td></tr></tbody></table><h5>Below</h5>",
    "styles": '<p style="text-align:center">Centred</p><p><span style="color:red">Red</span></p><hr><p>End</p>',
    "a picture": f'<p>Look</p><p><img src="{static("outbound/favicon.svg")}" alt="Our logo" width="40"></p><p>Nice</p>',
}


def without_empty_end(html: str) -> str:
    """Remove the empty last line, in which the cursor was."""
    return html.removesuffix("<div><br></div>")


@pytest.fixture
def open_editor(console, live_server) -> Callable[[str], Page]:
    """Open the editor on one of its three pages."""

    def go(place: str) -> Page:
        SenderFactory()
        customer = CustomerFactory(name="Ann Lee", email="ann@shop.example")
        thread = threads.open_by_customer(customer, body="Where is my invoice?", at=timezone.now())
        paths = {
            "composer": reverse("admin:messaging_message_add"),
            "send a message": reverse("admin:customer_send_message", args=[customer.pk]),
            "inbox": reverse("admin:delivery_conversation_change", args=[thread.pk]),
        }
        console.goto(live_server.url + paths[place])
        if place != "inbox":
            console.get_by_label("From", exact=True).select_option(label="Ada <ada@acme.example>")
        console.locator("trix-editor").click()
        return console

    return go


def stored(page: Page, place: str) -> str:
    """Send or save the content and return it as stored."""
    page.get_by_role("button", name="Save draft" if place == "composer" else "Send", exact=True).last.click()
    if place == "inbox":
        expect(page.locator(".ob-part-ours")).to_be_visible()
        return ConversationPart.objects.get().body
    expect(page.locator("body")).to_contain_text("saved as a draft" if place == "composer" else "will see the message")
    return Message.objects.get().version.body


def paste(page: Page, live_server, html: str) -> None:
    """Paste from the system clipboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live_server.url)
    page.evaluate(
        "(html) => navigator.clipboard.write("
        "[new ClipboardItem({ 'text/html': new Blob([html], { type: 'text/html' }) })])",
        html,
    )
    page.locator("trix-editor").focus()
    page.keyboard.press("Control+v")
    expect(page.locator("trix-editor")).not_to_have_text("")


@pytest.mark.parametrize("place", PLACES)
def test_pasted_paragraphs_stay_separate_in_every_editor(open_editor, live_server, place):
    page = open_editor(place)

    paste(page, live_server, NEIGHBOURS["paragraphs"])

    assert without_empty_end(stored(page, place)) == NEIGHBOURS["paragraphs"]


def test_no_pasted_block_is_merged_into_its_neighbour(open_editor, live_server):
    page = open_editor("composer")

    for kind, html in NEIGHBOURS.items():
        page.locator("trix-editor").evaluate("(one) => one.editor.loadHTML('')")
        paste(page, live_server, html)
        assert without_empty_end(page.locator("input[name=body]").input_value()) == html, kind


# The inbox has no buttons for paragraphs and headings.
BUTTONS = [("p", "p"), ("quote", "blockquote"), ("code", "pre"), ("heading2", "h2")]


@pytest.mark.parametrize(
    ("place", "button", "tag"),
    [
        *[("composer", *button) for button in BUTTONS],
        ("send a message", "p", "p"),
        ("inbox", "quote", "blockquote"),
    ],
)
def test_lines_that_a_button_turned_into_blocks_one_by_one_stay_apart(open_editor, place, button, tag):
    page = open_editor(place)
    page.keyboard.type("One")
    page.keyboard.press("Enter")
    page.keyboard.type("Two")
    for line in ([4, 7], [0, 3]):
        # The editor draws typed text with the next frame; a selection refers to drawn text.
        page.evaluate("() => new Promise(requestAnimationFrame)")
        page.locator("trix-editor").evaluate("(one, line) => one.editor.setSelectedRange(line)", line)
        page.locator(f"[data-trix-attribute={button}]").click()

    assert without_empty_end(stored(page, place)) == f"<{tag}>One</{tag}><{tag}>Two</{tag}>"


def test_typing_after_a_pasted_paragraph_starts_a_new_block(open_editor, live_server):
    page = open_editor("inbox")
    paste(page, live_server, "<p>First</p><p>Second</p>")

    page.keyboard.press("Enter")
    page.keyboard.type("Third")

    assert re.sub("<[^>]+>", "|", stored(page, "inbox")).split("|") == ["", "First", "", "Second", "", "Third", ""]


@pytest.mark.parametrize("kind", KEPT)
def test_content_opened_and_saved_unchanged_is_stored_as_it_was(console, live_server, settings, kind):
    settings.PUBLIC_URL = live_server.url
    message = MessageFactory(body=KEPT[kind], live=True)
    body = message.version.body
    page = console
    page.goto(live_server.url + reverse("admin:message_edit_content", args=[message.pk]))
    page.locator("trix-editor").click()
    page.wait_for_load_state("networkidle")
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.get_by_role("button", name="Duplicate")).to_be_visible()

    # The content is the same, so there is no new version.
    assert message.versions.get().body == body

    page.get_by_role("button", name="Duplicate").click()
    page.locator("trix-editor").click()
    page.wait_for_load_state("networkidle")
    page.get_by_role("button", name="Save draft").last.click()
    expect(page.locator("body")).to_contain_text("saved as a draft")

    copy = Message.objects.exclude(pk=message.pk).get()
    assert copy.version.body == body
    assert copy.versions.count() == 1


def test_edit_of_one_paragraph_leaves_its_neighbours_alone(console, live_server):
    draft = MessageFactory(body="<p>First</p><p>Second</p>")
    page = console
    page.goto(live_server.url + reverse("admin:messaging_message_change", args=[draft.pk]))
    page.locator("trix-editor").click()
    page.keyboard.press("Control+End")
    page.keyboard.type(" para")
    page.get_by_role("button", name="Save draft").last.click()
    expect(page.locator("body")).to_contain_text("saved as a draft")

    assert draft.versions.get().body == "<p>First</p><p>Second para</p>"


# Emails as other programs write them. The editor shows what it cannot edit, and an edit beside it leaves it alone.
REAL = {
    "a table from a spreadsheet": '<table border="0" cellpadding="0" width="128"><tbody><tr>'
    '<td bgcolor="#eeeeee" width="64">1</td><td colspan="2">a&nbsp;b</td></tr></tbody></table>',
    "a table with a variable": "<p>Prices</p><table><tbody><tr><td>{{ plan }}</td></tr></tbody></table><p>Below</p>",
    "two tables and a line": "<table><tbody><tr><td>1</td></tr></tbody></table><hr>"
    "<table><tbody><tr><td>2</td></tr></tbody></table>",
    "an image": '<p>Look <img src="https://shop.example/logo.png" alt="Our logo" width="40" style="border: 0">'
    " here</p>",
    "an image with a link": '<p><a href="https://shop.example/?u={{ user_id }}"><img src="https://shop.example/a.png" '
    'alt="Buy" width="200" height="40"></a></p>',
    "nested lists": "<ul><li>One<ul><li>Two</li><li>Three</li></ul></li><li>Four</li></ul>",
    "headings": "<h1>1</h1><h2>2</h2><h3>3</h3><h4>4</h4><h5>5</h5><h6>6</h6>",
    "quotes and code": "<blockquote>Said<br>twice</blockquote><pre>let a;\nlet b;</pre>",
    "marks": "<p><strong>bold</strong> <em>italic</em> <u>under</u> <del>out</del></p>",
    "line breaks and spaces": "<p>a<br>b<br><br>c&nbsp;&nbsp;d</p>",
    "links with variables": '<p><a href="https://shop.example/?u={{ user_id | url_encode }}">Hi '
    "{{ first_name }}</a></p>",
    "emoji and Arabic": "<p>👩‍👩‍👧 Hi</p><p>مرحبا بالعالم</p>",
}


def test_a_typed_character_changes_nothing_else_in_real_emails(open_editor):
    page = open_editor("composer")
    editor, body = page.locator("trix-editor"), page.locator("input[name=body]")
    changed = {}
    for kind, html in REAL.items():
        for _ in range(2):
            editor.evaluate("(one, html) => one.editor.loadHTML(html)", f"<p>Start</p>{html}<p>End</p>")
            editor.evaluate("one => { one.editor.setSelectedRange(5); one.editor.insertString('!'); }")
            # The editor writes the direction of the text down.
            found = body.input_value().replace(' dir="rtl"', "")
            if found != f"<p>Start!</p>{html}<p>End</p>":
                changed[kind] = found
    assert changed == {}


# Text and focus while frames come late


KEYS = [
    *"Hi {{ first_name }},  nice",
    "Enter",
    *"you invited ",
    *["Backspace"] * 3,
    *"ed ab",
    *["ArrowLeft"] * 2,
    "Delete",
    *"x ",
    "End",
    "Enter",
    "Backspace",
    *" y",
    "Control+b",
    *" z ",
]
TYPED = "<div>Hi {{ first_name }},  nice<br>you invited x b y<strong> z </strong></div>"


def test_typed_text_does_not_depend_on_when_frames_come(open_editor):
    page = open_editor("composer")
    page.evaluate(
        """() => {
            let frames = [];
            window.requestAnimationFrame = (render) => frames.push(render);
            window.cancelAnimationFrame = () => {};
            window.frame = () => frames.splice(0).forEach((render) => render());
        }"""
    )
    editor, body = page.locator("trix-editor"), page.locator("input[name=body]")

    for interval, first in [(1, 0), (3, 2), (4, 2), (5, 2), (7, 2), (7, 5), (60, 59)]:
        editor.evaluate("element => element.editor.loadHTML('')")
        editor.focus()
        for place, key in enumerate(KEYS):
            page.keyboard.press("Space" if key == " " else key)
            if place % interval == first:
                page.evaluate("frame()")
        page.evaluate("frame()")
        assert body.input_value().replace("&nbsp;", " ") == TYPED, (interval, first)


def test_text_typed_at_full_speed_while_preview_and_count_refresh_is_kept(open_editor):
    page = open_editor("composer")
    text = "Hi {{ first_name }}, nice, you invited a teammate! "

    for _ in range(5):
        # Their answers arrive while the next text is typed.
        with page.expect_request("**/preview/"), page.expect_request("**/forecast/"):
            page.keyboard.type(text)

    assert stored(page, "composer").replace("&nbsp;", " ") == f"<div>{text * 5}</div>"


def test_text_typed_after_an_inserted_space_comes_after_it(open_editor):
    page = open_editor("composer")
    page.locator("trix-editor").evaluate("element => element.editor.insertString('Hi {{ first_name }} ')")
    page.keyboard.type("you are here ")

    assert stored(page, "composer").replace("&nbsp;", " ") == "<div>Hi {{ first_name }} you are here </div>"


def test_a_late_frame_does_not_take_the_focus_back_to_the_editor(open_editor):
    page = open_editor("composer")
    page.evaluate("window.requestAnimationFrame = (render) => setTimeout(render, 300)")
    editor, subject = page.locator("trix-editor"), page.get_by_label("Subject")
    page.keyboard.type("Hello")
    subject.focus()
    # At a person's speed: the frame comes while the text is typed.
    subject.press_sequentially("Good news", delay=100)

    expect(subject).to_have_value("Good news")
    expect(editor).to_have_text("Hello")
    editor.evaluate("element => element.editor.insertString('!')")
    expect(editor).to_have_text("Hello!")


def test_text_comes_before_the_toolbar_on_a_phone(open_editor):
    page = open_editor("send a message")
    page.set_viewport_size({"width": 390, "height": 844})

    text, toolbar = (page.locator(name).bounding_box() for name in ("trix-editor", "trix-toolbar"))
    assert text["y"] + text["height"] <= toolbar["y"]
