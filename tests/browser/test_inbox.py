"""The inbox in a real browser: live updates and the actions on a conversation."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, Route, expect

from delivery import schedule
from delivery.conversations import attachments, threads
from delivery.models import Conversation
from messaging.models import Autosave, SavedReply
from tests.browser.conftest import violations
from tests.browser.test_messenger import eventually
from tests.factories import CustomerFactory, CustomerTagFactory, EventFactory, MembershipFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PHONE = {"width": 390, "height": 844}
LONG = "Wolfeschlegelsteinhausenbergerdorff" * 3
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf50"
    "0f0003860180b5fd4b8f0000000049454e44ae426082"
)


@pytest.fixture(autouse=True)
def somewhere_to_keep_images(settings, tmp_path, live_server) -> None:
    settings.MEDIA_ROOT, settings.PUBLIC_URL = tmp_path, live_server.url


@pytest.fixture
def boss(transactional_db) -> User:
    schedule.install()
    return User.objects.create_superuser("boss", "boss@acme.example", "pass", first_name="Bo", last_name="Berg")


@pytest.fixture
def console(context, live_server, boss) -> Page:
    client = Client()
    client.force_login(boss)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    return context.new_page()


@pytest.fixture
def open_inbox(console, live_server) -> Callable[..., Page]:
    """Return a function that opens the list or a conversation."""

    def go(thread: Conversation | None = None) -> Page:
        path = (
            reverse("admin:delivery_conversation_change", args=[thread.pk])
            if thread
            else reverse("admin:delivery_conversation_changelist")
        )
        console.goto(live_server.url + path)
        return console

    return go


def wrote(name: str, body: str, **ago: float) -> Conversation:
    return threads.open_by_customer(
        CustomerFactory(name=name, email=f"{name.split()[0].lower()[:40]}@shop.example"),
        body=body,
        at=timezone.now() - timedelta(**ago or {"minutes": 5}),
    )


def write(page: Page, words: str) -> None:
    page.locator("trix-editor").click()
    page.keyboard.type(words)


def fits(page: Page) -> None:
    """Assert that nothing scrolls sideways, axe finds nothing, and no script failed."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page, within="document.getElementById('inbox')") == []


def test_reply_appears_without_reload_and_is_answered(open_inbox, boss):
    thread = wrote("Ann Lee", "Where is my invoice?")
    page = open_inbox()
    expect(page.locator("[data-counted=inbox]")).to_have_text("1 unread")
    page.evaluate("window.untouched = true")

    wrote("Bob Ray", "Is anybody there?")

    expect(page.get_by_role("link", name="Unread: Bob Ray")).to_be_visible()
    expect(page.locator("[data-counted=inbox]")).to_have_text("2 unread")
    assert page.evaluate("window.untouched")
    page.get_by_role("link", name="Ann Lee").click()
    expect(page.locator("#thread-parts")).to_contain_text("Where is my invoice?")
    # A teammate has the conversation open, so it is read.
    expect(page.locator("[data-counted=inbox]")).to_have_text("1 unread")

    page.evaluate("window.untouched = true")
    write(page, "Half an ans")
    quoted = "Ada wrote:\nWhich one?"
    threads.reply_by_customer(thread, body="The one of May", may_be_quoted=quoted, at=timezone.now())
    expect(page.locator("#thread-parts")).to_contain_text("The one of May")
    expect(page.locator("trix-editor")).to_contain_text("Half an ans")
    assert page.evaluate("window.untouched")
    page.keyboard.type("wer")
    expect(page.get_by_text("Which one?")).to_be_hidden()
    page.get_by_text("Text that may be quoted").click()
    threads.reply_by_customer(thread, body="And the one of June", at=timezone.now())
    expect(page.locator("#thread-parts")).to_contain_text("And the one of June")
    expect(page.get_by_text("Which one?")).to_be_visible()
    fits(page)
    page.get_by_role("button", name="Send", exact=True).click()

    expect(page.locator(".ob-part-ours")).to_contain_text("Half an answer")
    expect(page.locator("trix-editor")).to_have_text("")
    assert thread.parts.filter(teammate=boss).get().body.count("Half an answer") == 1


def test_conversation_is_noted_assigned_snoozed_closed_and_reopened(open_inbox):
    User.objects.create_user("sam", first_name="Sam", last_name="Quinn", is_staff=True)
    thread = wrote("Ann Lee", "Where is my invoice?")
    page = open_inbox(thread)

    page.get_by_role("button", name="Note", exact=True).click()
    expect(page.get_by_text("Seen by staff only", exact=True)).to_be_visible()
    write(page, "Careful with this one")
    fits(page)
    page.get_by_role("button", name="Add note").click()
    expect(page.locator(".ob-part-note")).to_contain_text("Note, seen by staff only")

    page.locator("summary", has_text="Unassigned").click()
    fits(page)
    page.get_by_role("button", name="Sam Quinn").click()
    expect(page.locator("#thread-parts")).to_contain_text("Bo Berg assigned the conversation to Sam Quinn")
    expect(page.locator("#thread-bar summary").first).to_contain_text("Sam Quinn")

    page.locator("summary", has_text="Snooze").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Tomorrow")).to_be_hidden()
    page.locator("summary", has_text="Snooze").click()
    page.get_by_role("button", name="Tomorrow").click()
    expect(page.locator("#thread-bar")).to_contain_text("Snoozed until")
    expect(page.locator("#inbox-list")).to_contain_text("No open conversations.")

    page.get_by_role("button", name="Reopen").click()
    expect(page.locator("#thread-parts")).to_contain_text("reopened the conversation")
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("#thread-bar")).to_contain_text("Closed")
    page.get_by_role("link", name="Closed 1").click()
    expect(page.get_by_role("link", name="Ann Lee")).to_be_visible()
    fits(page)


def test_new_message_must_be_read_before_closing(open_inbox, browser_errors):
    browser_errors.allow("Failed to load resource.*/news/")
    thread = wrote("Ann Lee", "Where is my invoice?")
    page = open_inbox(thread)
    expect(page.locator("[data-counted=inbox]")).to_be_hidden()
    threads.reply_by_customer(thread, body="Got it", at=timezone.now())
    expect(page.locator("#thread-parts")).to_contain_text("Got it")
    unanswered: list[Route] = []
    page.route("**/news/**", lambda route: unanswered.append(route))
    # The page asks again only after the answer to the request before.
    eventually(lambda: unanswered, page)
    threads.reply_by_customer(thread, body="No, another one", at=timezone.now())

    page.get_by_role("button", name="Close", exact=True).click()

    expect(page.get_by_text("The customer wrote again in the meantime.")).to_be_visible()
    expect(page.locator("#thread-parts")).to_contain_text("No, another one")
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.get_by_role("button", name="Reopen")).to_be_visible()
    assert Conversation.objects.get().state == "closed"


def test_draft_survives_other_actions_and_images_are_sent(open_inbox):
    thread = wrote("Ann Lee", "Where is my invoice?")
    page = open_inbox(thread)
    write(page, "Here it is")

    page.locator("summary", has_text="Unassigned").click()
    page.get_by_role("button", name="Me", exact=True).click()
    expect(page.locator("#thread-parts")).to_contain_text("Bo Berg assigned the conversation to themselves")
    expect(page.locator("trix-editor")).to_have_text("Here it is")

    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Add images").click()
    image = {"name": "invoice.png", "mimeType": "image/png", "buffer": PNG}
    chosen.value.set_files([image, {**image, "name": "other.png"}])
    page.get_by_role("button", name="Remove other.png").click()
    fits(page)
    page.get_by_role("button", name="Send and close").click()

    expect(page.get_by_role("img", name="invoice.png")).to_be_visible()
    expect(page.locator("#thread-bar")).to_contain_text("Closed")
    assert page.get_by_role("img", name="invoice.png").evaluate("image => image.complete && image.naturalWidth") == 1
    assert [file["name"] for file in thread.parts.get(part_type="comment").attachments] == ["invoice.png"]


def test_invalid_answer_shows_an_error_and_keeps_its_text(open_inbox):
    page = open_inbox(wrote("Ann Lee", "Where is my invoice?"))

    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="Write a message first.")).to_be_visible()
    write(page, "Kept")
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Add images").click()
    chosen.value.set_files([{"name": "spell.png", "mimeType": "image/png", "buffer": b"<svg/>"}])
    page.get_by_role("button", name="Send", exact=True).click()

    expect(page.get_by_role("alert").filter(has_text="Images must be PNG")).to_be_visible()
    expect(page.locator("trix-editor")).to_have_text("Kept")
    fits(page)


def test_phone_shows_the_list_or_the_conversation(open_inbox):
    thread = wrote(f"Ann {LONG}", f"Where is {LONG}?", minutes=1)
    page = open_inbox()
    page.set_viewport_size(PHONE)
    fits(page)

    page.get_by_role("link", name="Ann").click()
    expect(page.locator("#inbox-rows")).to_be_hidden()
    expect(page.locator("#thread-parts")).to_be_visible()
    page.locator("summary", has_text="Unassigned").click()
    menu = page.locator(".ob-drop[open] .ob-drop-body").bounding_box()
    assert menu["x"] >= 0
    assert menu["x"] + menu["width"] <= PHONE["width"]
    page.keyboard.press("Escape")
    write(page, "On my way")
    fits(page)
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".ob-part-ours")).to_contain_text("On my way")

    page.get_by_role("link", name="Back to the list").click()
    expect(page.locator("#inbox-rows")).to_contain_text("Bo: On my way")
    assert thread.parts.count() == 1


def test_long_list_opens_at_its_top_on_a_phone(open_inbox):
    for number in range(20):
        wrote(f"Ann {number}", "Where is my invoice?", minutes=number)
    page = open_inbox()
    page.set_viewport_size(PHONE)
    page.reload()

    assert page.evaluate("document.documentElement.scrollHeight > 2 * innerHeight")
    assert page.evaluate("scrollY") == 0


def test_long_conversation_opens_at_its_end(open_inbox):
    thread = wrote("Ann Lee", "The first thing")
    for number in range(200):
        threads.reply_by_customer(thread, body=f"Line {number}", at=timezone.now())
    page = open_inbox(thread)

    expect(page.get_by_text("Line 199", exact=True).last).to_be_in_viewport()
    fits(page)
    page.get_by_role("link", name="earlier").click()
    expect(page.get_by_text("The first thing")).to_have_count(1)
    threads.reply_by_customer(thread, body="One more", at=timezone.now())
    expect(page.locator("#thread-parts")).to_contain_text("One more")
    assert page.locator("#thread-parts > li").count() == 202


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_empty_inbox_is_accessible(open_inbox, scheme):
    page = open_inbox()
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")

    expect(page.locator("#inbox")).to_contain_text("A message that you send appears here when its customer replies.")
    fits(page)


def test_lost_connection_is_reported(open_inbox, context):
    page = open_inbox(wrote("Ann Lee", "Where is my invoice?"))
    expect(page.locator("[data-counted=inbox]")).to_be_hidden()

    page.clock.install()
    context.clear_cookies()
    page.clock.run_for(20_000)

    expect(page.get_by_role("alert").filter(has_text="logged out")).to_be_visible()


def test_draft_survives_an_expired_session(open_inbox, context, browser_errors):
    # Without the session the page may report the conversation as seen, and its text.
    browser_errors.allow(r"403 \(Forbidden\) .*/(seen|autosave)/")
    page = open_inbox(wrote("Ann Lee", "Where is my invoice?"))
    page.locator("trix-editor").click()
    page.keyboard.type("It is on its way")
    context.clear_cookies()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("alert").filter(has_text="logged out")).to_be_visible()

    page.get_by_role("button", name="Send", exact=True).click()

    expect(page.get_by_role("alert").filter(has_text="logged out")).to_contain_text("Your text is still here.")
    expect(page.locator("trix-editor")).to_contain_text("It is on its way")


def test_emailed_file_is_downloaded_under_its_name_and_not_run(open_inbox, tmp_path):
    page_of_theirs = b"<!doctype html><script>document.title = 'ran'</script>"
    upload = SimpleUploadedFile("x", page_of_theirs, "text/html")
    upload.name = "Übersicht – März.html"
    thread = wrote("Ann Lee", "Here is the file.")
    files = [attachments.store_file(upload)]
    threads.reply_by_customer(thread, body="", attachments=files, at=timezone.now())
    page = open_inbox(thread)

    with page.expect_download() as saved:
        page.get_by_role("link", name="Übersicht – März.html").click()

    assert saved.value.suggested_filename == "Übersicht – März.html"
    saved.value.save_as(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == page_of_theirs
    with page.expect_download():
        page.evaluate("address => { location.href = address; }", files[0]["url"])
    assert page.title() != "ran"


@pytest.mark.parametrize("size", [PHONE, {"width": 1440, "height": 900}], ids=("phone", "desktop"))
def test_customer_details_stand_beside_the_conversation_and_open_on_request_on_a_phone(open_inbox, console, size):
    thread = wrote("Ada Byron", "Hello")
    MembershipFactory(customer=thread.customer, company__name="Byron Ltd")
    CustomerTagFactory(customer=thread.customer, tag__name="VIP")
    EventFactory(customer=thread.customer, name="invited a teammate")
    console.set_viewport_size(size)
    page = open_inbox(thread)
    details = page.locator("#about")
    if size == PHONE:
        expect(details.get_by_text("Byron Ltd")).to_have_count(0)
        details.locator("summary").click()

    for text in ("Byron Ltd", "VIP", "invited a teammate"):
        expect(details.get_by_text(text)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page, within="'#inbox'") == []
    details.locator("summary").click()
    page.reload()
    expect(details.locator("summary")).to_be_visible()
    expect(details.get_by_text("Byron Ltd")).to_have_count(0)


@pytest.mark.parametrize("size", [PHONE, {"width": 1440, "height": 900}], ids=("phone", "desktop"))
def test_saved_reply_is_found_and_inserted_by_keyboard(open_inbox, console, size):
    SavedReply.objects.create(name="Delay", body="Sorry for the delay.")
    SavedReply.objects.create(name="Refund", body="Hello {{ first_name }},\n\nthe money goes to {{ city }}.")
    thread = wrote("Ada Byron", "Where is my money?")
    console.set_viewport_size(size)
    page = open_inbox(thread)
    page.locator("trix-editor").click()
    page.keyboard.type("First words. ")

    page.get_by_role("button", name="Saved replies").focus()
    page.keyboard.press("Enter")
    search = page.get_by_role("combobox", name="Search saved replies")
    expect(search).to_be_focused()
    expect(page.get_by_role("option")).to_have_count(2)
    assert violations(page, within="document.getElementById('answer')") == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option", name="Refund")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    expect(search).to_be_hidden()
    expect(page.get_by_role("button", name="Saved replies")).to_be_focused()
    page.keyboard.press("Enter")
    expect(search).to_be_focused()
    page.keyboard.type("money")
    expect(page.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")

    editor = page.locator("trix-editor")
    expect(editor).to_be_focused()
    expect(editor).to_contain_text("First words.")
    expect(editor).to_contain_text("Hello Ada,")
    expect(editor).to_contain_text("the money goes to [city].")
    expect(page.get_by_text("No value for city. Replace the square brackets before you send.")).to_be_visible()
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".ob-part-ours")).to_contain_text("Hello Ada,")


def test_draft_is_shown_again_though_it_was_saved_while_the_next_page_was_on_its_way(open_inbox):
    page = open_inbox(wrote("Ann Lee", "Where is my invoice?"))
    write(page, "Here it is")

    def answer_late(route) -> None:
        # Rendered before the text reaches the server, and shown after it.
        answer = route.fetch(max_redirects=0)
        while not Autosave.objects.open().exists():
            time.sleep(0.05)
        time.sleep(0.5)
        route.fulfill(response=answer)

    page.route(page.url, answer_late, times=1)
    page.evaluate("location.assign(location.href)")

    expect(page.get_by_role("status").filter(has_text="Restored what you typed")).to_be_visible()
    expect(page.locator("trix-editor")).to_have_text("Here it is")
