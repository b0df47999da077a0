"""The tools of a designed email in a real browser."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from audiences.models import Workspace
from messaging import content
from messaging.models import Message
from tests.factories import SenderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def page(console, live_server) -> Page:
    SenderFactory()
    workspace = Workspace.current()
    workspace.colour = "#ffcc00"
    workspace.save()
    console.goto(live_server.url + reverse("admin:messaging_message_add"))
    expect(console.locator("trix-editor[data-ready]")).to_be_visible()
    return console


def body_of(page: Page) -> str:
    return page.locator("input[name=body]").input_value()


def load(page: Page, html: str, *selected: int) -> None:
    page.locator("trix-editor").evaluate(
        "(one, [html, selected]) => { one.editor.loadHTML(html); one.focus(); one.editor.setSelectedRange(selected); }",
        [html, selected],
    )


def tool(page: Page, name: str) -> None:
    page.locator("#design").get_by_role("button", name=name, exact=True).click()


def test_an_email_with_a_button_columns_and_a_line_is_designed_and_sent_as_drawn(page):
    page.locator("trix-editor").click()
    page.keyboard.type("Hello")
    tool(page, "Button")
    dialog = page.get_by_role("dialog", name="Button")
    expect(dialog.get_by_label("Text")).to_be_focused()
    dialog.get_by_label("Text").fill("See {{ plan }}")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("Enter a full address")
    expect(dialog.get_by_label("Link", exact=True)).to_be_focused()
    page.keyboard.type("https://shop.example/?u=")
    dialog.get_by_label("Insert a variable into the address").select_option("user_id")
    expect(dialog.get_by_label("Link", exact=True)).to_have_value("https://shop.example/?u={{ user_id | url_encode }}")
    # The colour of the workspace, on which dark text is easier to read.
    expect(dialog.get_by_label("Colour")).to_have_value("#ffcc00")
    dialog.get_by_role("button", name="Save button").click()
    expect(page.locator("trix-editor")).to_be_focused()
    page.keyboard.type("Below")
    tool(page, "Columns")
    # The text of the first column is selected, so that typing replaces it.
    page.keyboard.type("First")
    tool(page, "Line")
    page.locator("trix-editor").evaluate("one => one.editorController.reparse()")
    page.get_by_role("button", name="Save draft").last.click()
    expect(page.locator("body")).to_contain_text("saved as a draft")

    body = Message.objects.get().version.body
    parts = re.fullmatch("<div>Hello</div>(<table.*?</table>)<div>Below</div>(<div><div.*</div>)<div><br></div>", body)
    button, columns = parts.groups()
    assert 'bgcolor="#ffcc00"' in button
    assert "color:#1f2933" in button
    assert ">See {{ plan }}</a>" in button
    assert re.findall("<div style=|<p>.*?</p>|<hr>", columns) == [
        "<div style=", "<p>First</p>", "<hr>", "<p><br></p>", "<div style=", "<p>Right column</p>",
    ]  # fmt: skip

    sent = content.compile_version("", body, target=content.RenderTarget.EMAIL, tracked=True)
    assert sent.links == ("https://shop.example/?u={{ user_id | url_encode }}",)
    values = {"plan": "Pro", "user_id": "7", "tracking.click": "https://out.example/c/", "tracking.open": ""}
    rendered = sent.render(values)
    assert 'href="https://out.example/c/0"' in rendered.html
    assert "See Pro (https://shop.example/?u=7)" in rendered.text
    for style in ("background-color: #ffcc00", "max-width: 248px", "display: inline-block"):
        assert style.replace(" ", "") in rendered.html.replace(" ", "")

    # The columns stand side by side at the width of a desktop in the preview, also in a branded email.
    branded = content.compile_version("", columns, target=content.RenderTarget.EMAIL, colour="#ffcc00", header="Shop")
    email = page.context.new_page()
    for html in (rendered.html, branded.render(values).html):
        email.set_viewport_size({"width": 600, "height": 800})
        email.set_content(html)
        first, second = (email.get_by_text(text, exact=True).bounding_box() for text in ("First", "Right column"))
        assert first["y"] == second["y"]
        assert second["x"] > first["x"] + 248
        email.set_viewport_size({"width": 375, "height": 800})
        first, second = (email.get_by_text(text, exact=True).bounding_box() for text in ("First", "Right column"))
        assert second["y"] > first["y"]


def test_a_selected_button_image_or_table_is_changed(page):
    image = '<img src="https://shop.example/a.png" alt="" width="40" height="40">'
    start = f"<p>a</p><p>{image}</p><table><tbody><tr><td>1</td></tr></tbody></table>"
    load(page, start, 2, 3)
    expect(page.locator("#design").get_by_role("button", name="Edit selected")).to_be_enabled()
    tool(page, "Edit selected")
    dialog = page.get_by_role("dialog", name="Image")
    dialog.get_by_label("Alternative text").fill("Our logo")
    dialog.get_by_label("Width").fill("wide")
    dialog.get_by_label("Link", exact=True).fill("https://shop.example/")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("Enter a width such as 300")
    dialog.get_by_label("Width").fill("50%")
    page.keyboard.press("Enter")
    assert body_of(page).startswith(
        '<p>a</p><p><a href="https://shop.example/"><img src="https://shop.example/a.png" alt="Our logo" '
        'style="width: 50%; height: auto;"></a></p>'
    )
    changed = body_of(page)
    page.keyboard.press("Control+z")
    assert body_of(page) == start
    page.keyboard.press("Control+Shift+z")
    assert body_of(page) == changed

    page.locator("trix-editor table").dblclick()
    dialog = page.get_by_role("dialog", name="HTML of the block")
    table = "<table><tbody><tr><td>2</td></tr></tbody></table>"
    rows = "<table>{% if plan %}<tr><td>2</td></tr>{% endif %}</table>"
    for refused in ("", "text", "<!-- a -->", "<tr></tr>", table * 2, f"{{% if plan %}}{table}{{% endif %}}", rows):
        dialog.get_by_label("HTML").fill(refused)
        dialog.get_by_role("alert").evaluate("one => { one.textContent = ''; }")
        dialog.get_by_role("button", name="Save block").click()
        expect(dialog.get_by_role("alert")).to_contain_text("Enter one element")
    dialog.get_by_label("HTML").fill('<table><tbody><tr><td class="x">2</td></tr></tbody></table>')
    dialog.get_by_role("button", name="Save block").click()
    expect(page.locator("trix-editor td")).to_have_text("2")
    assert ">2</td>" in body_of(page)
    page.keyboard.press("Control+z")
    expect(page.locator("trix-editor td")).to_have_text("1")

    # The elements around an image and its caption stay.
    image = '<img src="https://shop.example/a.png" alt="">'
    captioned = f'<figure>{image}<figcaption>Cap</figcaption></figure><p><em style="color: red">b {image} c</em></p>'
    for place in (0, 4):
        load(page, captioned, place, place + 1)
        tool(page, "Edit selected")
        page.get_by_role("dialog", name="Image").get_by_label("Alternative text").fill("Our logo")
        page.keyboard.press("Enter")
        assert "Our logo" in body_of(page)
        assert body_of(page).replace("Our logo", "") == captioned


def test_a_button_keeps_its_values_and_the_text_below_it_stays_below(page):
    page.locator("trix-editor").click()
    tool(page, "Button")
    dialog = page.get_by_role("dialog", name="Button")
    dialog.get_by_label("Text").fill("Buy")
    dialog.get_by_label("Link", exact=True).fill("https://shop.example/")
    for alignment in ("left", "center", "right"):
        dialog.get_by_label("Alignment").select_option(alignment)
        dialog.get_by_role("button", name="Save button").click()
        # As after a draft is saved and opened.
        load(page, content.sanitise(body_of(page)), 0, 1)
        tool(page, "Edit selected")
        expect(dialog.get_by_label("Text")).to_have_value("Buy")
        expect(dialog.get_by_label("Alignment")).to_have_value(alignment)
        expect(dialog.get_by_label("Colour")).to_have_value("#ffcc00")
    page.keyboard.press("Escape")
    # The theme would draw the text of each table in a table smaller.
    size = page.locator("trix-editor").evaluate("one => getComputedStyle(one).fontSize")
    expect(page.locator("trix-editor td a")).to_have_css("font-size", size)
    html = body_of(page) + "<p>Below</p>"
    rendered = content.compile_version("", html, target=content.RenderTarget.EMAIL).render({})
    assert "Buy (https://shop.example/)" in rendered.text

    # Other tools make buttons that differ from ours.
    ours = 'style="padding: 12px 24px; border-radius: 6px"'
    for cell in (f'bgcolor="red" {ours}', ours, 'bgcolor="#ff0000" style="padding: 9px"'):
        other = f'<table role="presentation"><tr><td {cell}><a href="https://a.example/">Go</a></td></tr></table>'
        load(page, other, 0, 1)
        tool(page, "Edit selected")
        expect(page.get_by_role("dialog", name="HTML of the block")).to_be_visible()
        page.keyboard.press("Escape")

    email = page.context.new_page()
    email.set_viewport_size({"width": 600, "height": 800})
    email.set_content(rendered.html)
    button, below = (email.get_by_text(text, exact=True).bounding_box() for text in ("Buy", "Below"))
    assert button["x"] + button["width"] == pytest.approx(600 - 24 - 24, abs=1)
    assert below["y"] > button["y"] + button["height"]


def test_blocks_are_aligned_and_the_tools_show_it(page):
    load(page, "<p>a</p><div>b</div><ul><li>c</li></ul>", 0, 5)
    tool(page, "Centre")
    centred = "<p{}>a</p><div{}>b</div><ul><li{}>c</li></ul>"
    assert body_of(page) == centred.replace("{}", ' style="text-align: center;"')
    expect(page.locator("#design [data-design=center]")).to_have_attribute("aria-pressed", "true")
    tool(page, "Align left")
    assert body_of(page) == centred.replace("{}", "")


def test_tools_of_the_design_belong_to_emails_and_the_toolbar_to_the_keyboard(page):
    page.locator("trix-editor").click()
    page.keyboard.type("Bold")
    page.keyboard.press("Control+a")
    # One stop of Tab, then arrows.
    page.keyboard.press("Shift+Tab")
    toolbar = page.get_by_role("toolbar", name="Formatting")
    expect(toolbar.get_by_role("button", name="Paragraph")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(toolbar.get_by_role("button", name="Bold")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("trix-editor strong")).to_have_text("Bold")

    page.keyboard.press("Control+k")
    address = page.get_by_label("Address of the link")
    for incomplete in ("", "www.acme.com", "https://", "/orders"):
        address.fill(incomplete)
        page.keyboard.press("Enter")
        expect(toolbar.get_by_role("alert")).to_contain_text("Enter a full address")
    for complete in ("https://a", " HTTP://a.example/?q={{ plan }}", "mailto:a@b.example", "tel:1", "{{ plan }}"):
        address.fill(complete)
        assert address.evaluate("one => one.checkValidity()"), complete
        expect(toolbar.get_by_role("alert")).to_be_empty()
    address.fill("")
    toolbar.get_by_label("Insert a variable into the address").select_option("company.name")
    expect(address).to_have_value("{{ company.name }}")
    page.keyboard.press("Enter")
    assert body_of(page) == '<div><a href="{{ company.name }}"><strong>Bold</strong></a></div>'

    page.get_by_label("In-app").check()
    expect(page.locator("#design")).to_be_hidden()
    expect(toolbar).to_be_visible()

    page.get_by_label("Email", exact=True).check()
    page.set_viewport_size({"width": 390, "height": 844})
    text, tools = (page.locator(name).bounding_box() for name in ("trix-editor", "#design"))
    assert text["y"] + text["height"] <= tools["y"]
