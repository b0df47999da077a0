"""The messenger in a real browser, on a website of another origin."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from django.core.cache import cache
from django.utils import timezone
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, expect

from audiences import identity_verification
from audiences.models import Customer, Event, Workspace
from delivery.conversations import threads
from delivery.matching import direct
from delivery.models import Conversation, DeliveryRecord, Hit
from messaging.models import Message
from tests.browser.conftest import (
    ARGUMENTS,
    WHOLE_CHROMIUM,
    Requests,
    Site,
    global_names,
    violations,
    without_scripts,
)
from tests.factories import CustomerFactory, MessageFactory, SenderFactory

pytestmark = pytest.mark.django_db(transaction=True)

LAUNCHER = "outbound-messenger .launcher"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf50"
    "0f0003860180b5fd4b8f0000000049454e44ae426082"
)


@pytest.fixture(autouse=True)
def ours(settings, tmp_path, live_server, site, browser_errors) -> None:
    """A server with its own URL and the website's origin."""
    # These tests lose and refuse requests of the messenger; browsers log them. The script itself must load.
    browser_errors.allow(r"Failed to load resource.*/messenger/(?!messenger\.js)")
    settings.PUBLIC_URL = address(live_server)
    settings.MEDIA_ROOT = tmp_path
    Workspace.current()
    Workspace.objects.update(allowed_origins=[site.origin])
    cache.clear()


def address(live_server) -> str:
    """Return our server's URL with another host name than the website, so that the origins differ."""
    return live_server.url.replace("127.0.0.1", "localhost")


@pytest.fixture
def ada(django_user_model):
    return django_user_model.objects.create(username="ada", first_name="Ada", last_name="Byron", is_staff=True)


def signed(**who: object) -> dict[str, object]:
    named = str(who.get("user_id") or who.get("email"))
    return {**who, "user_hash": identity_verification.user_hash(Workspace.current().identity_secret, named)}


def html(server: str, boot: dict[str, object] | None, *, head: str = "", body: str = "<p>Our shop</p>") -> str:
    """A page of the website, with the snippet that staff copy."""
    calls = f'Outbound("boot", {json.dumps(boot)});' if boot is not None else ""
    return f"""<!doctype html><html lang="en"><head><title>Shop</title>{head}</head>
    <body><main><h1>Shop</h1>{body}</main>
    <script>(function (w, d) {{
      if (typeof w.Outbound === "function") return;
      var q = (w.Outbound = function () {{ q.q.push(arguments); }}); q.q = [];
      var s = d.createElement("script"); s.async = true; s.src = "{server}/messenger/messenger.js";
      d.head.appendChild(s);
    }})(window, document);
    window.problems = []; window.onerror = (what) => problems.push(what);
    window.onunhandledrejection = (what) => problems.push(String(what.reason));
    {calls}</script></body></html>"""


@pytest.fixture
def visit(live_server, site: Site, page: Page) -> Callable[..., Page]:
    """Open the website as a user (`visit(user_id="ann")`) or as a visitor."""

    def go(*, at: str = "/", on: Page | None = None, look: dict | None = None, **who: object) -> Page:
        boot = {
            **(signed(**who) if who.keys() & {"user_id", "email"} and "user_hash" not in who else who),
            **(look or {}),
        }
        where = site.put(at, html(address(live_server), boot))
        (on or page).goto(where)
        return on or page

    return go


def chat(body: str = "<p>Hi {{ first_name }}, any questions?</p>", **facts: object):
    return MessageFactory(in_app=True, body=body, live=True, at=timezone.now(), **facts)


def answer(ada, body: str) -> None:
    threads.reply_by_teammate(Conversation.objects.get(), teammate=ada, body=body, at=timezone.now())


def write(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Write a message").fill(text)
    page.keyboard.press("Enter")


def eventually(fact: Callable[[], object], page: Page) -> None:
    """Wait until the condition holds on the server."""
    deadline = time.monotonic() + 30
    while not (found := fact()) and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert found


def said_nothing_wrong(page: Page) -> None:
    """Check that no error reached the page."""
    assert page.evaluate("window.problems") == []


# Chat


def test_chat_arrives_with_the_visit_and_the_answer_comes_back(visit, ada):
    chat()
    page = visit(user_id="ann", name="Ann Lee")

    snippet = page.get_by_role("article", name="Message from Ada")
    expect(snippet).to_contain_text("Hi Ann, any questions?")
    expect(page.locator(LAUNCHER)).to_have_attribute("aria-label", "Open messages, 1 unread")
    snippet.get_by_role("button", name="Ada").click()
    write(page, "Do you ship to <b>Norway</b>?")
    expect(page.locator(".part.own:not(.pending)")).to_contain_text("Do you ship to <b>Norway</b>?")
    conversation = Conversation.objects.in_inbox().get()
    assert conversation.parts.get().body == "<p>Do you ship to &lt;b&gt;Norway&lt;/b&gt;?</p>"
    record = DeliveryRecord.objects.get()
    assert None not in (record.opened_at, record.replied_at)

    answer(ada, "<p>We <strong>do</strong>.</p>")
    expect(page.locator(".part strong")).to_have_text("do")
    threads.reply_by_customer(conversation, body="Thanks", may_be_quoted="Ada wrote:\nWe do.", at=timezone.now())
    expect(page.get_by_text("Thanks")).to_be_visible()
    expect(page.get_by_text("Ada wrote:")).to_be_hidden()
    page.get_by_text("Quoted text").click()
    expect(page.get_by_text("Ada wrote:")).to_be_visible()
    eventually(lambda: Conversation.objects.get().read, page)
    page.reload()
    page.locator(LAUNCHER).click()
    page.get_by_role("button", name="Ada").click()
    expect(page.locator(".part")).to_have_count(4)
    said_nothing_wrong(page)


def test_unread_badge_counts_and_the_callback_runs(visit, ada, page):
    chat()
    chat("<p>And this</p>")
    visit(user_id="ann")
    expect(page.locator(".badge")).to_have_text("2")
    page.evaluate("window.counts = []; Outbound('onUnreadCountChange', (count) => counts.push(count))")

    page.locator(LAUNCHER).click()
    page.locator(".entry").first.click()
    expect(page.locator(".part")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".badge")).to_have_text("1")
    assert page.evaluate("counts") == [2, 1]
    eventually(lambda: Conversation.objects.filter(read=True).count() == 1, page)
    eventually(lambda: DeliveryRecord.objects.filter(opened_at=None).count() == 1, page)


def test_dismissed_snippet_stays_dismissed_and_in_the_list(visit):
    chat()
    page = visit(user_id="ann", name="Ann")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator(".snippet")).to_have_count(0)
    eventually(lambda: DeliveryRecord.objects.exclude(dismissed_at=None).exists(), page)

    page.reload()

    expect(page.locator(".badge")).to_have_text("1")
    expect(page.locator(".snippet")).to_have_count(0)


def test_snippet_of_a_chat_that_has_ended_is_shown_only_for_an_answer(visit, ada):
    message = chat()
    page = visit(user_id="ann", name="Ann")
    expect(page.locator(".snippet")).to_contain_text("Hi Ann")

    Message.objects.filter(pk=message.pk).update(shown_until=timezone.now())
    page.reload()

    # It stays in the list.
    expect(page.locator(".badge")).to_have_text("1")
    expect(page.locator(".snippet")).to_have_count(0)
    answer(ada, "Still there?")
    page.reload()
    expect(page.locator(".snippet")).to_contain_text("Still there?")


def test_direct_message_arrives_without_a_reload(visit, page):
    page.clock.install()
    visit(user_id="ann")
    expect(page.locator(LAUNCHER)).to_be_visible()
    at, ann = timezone.now(), Customer.objects.get()
    direct.send_to_one(
        ann, channel="in_app", format="chat", sender=SenderFactory(), subject="", body="<p>Just you</p>", by=None, at=at
    )

    for _ in range(5):  # The first poll may not be waited for yet.
        page.clock.fast_forward(30_000)
        with suppress(PlaywrightError):
            page.locator(".snippet").wait_for(timeout=3_000)
            break

    expect(page.locator(".snippet")).to_contain_text("Just you")
    assert DeliveryRecord.objects.get().sent_at is not None


def test_open_page_visits_every_five_minutes_and_polls_in_between(visit, page):
    page.clock.install()
    requests = Requests(page)
    asked = requests.asked
    visit(user_id="ann")
    expect(page.locator(LAUNCHER)).to_be_visible()
    assert asked.count("POSTping") == 1
    for _ in range(4):
        page.clock.run_for(60_000)
        requests.wait_for_answers()
    assert asked.count("POSTping") == 1
    assert 3 < asked.count("GETconversations") < 40

    page.clock.run_for(75_000)

    eventually(lambda: asked.count("POSTping") == 2, page)


def test_two_tabs_agree_on_read_messages(visit, context, page):
    chat()
    visit(user_id="ann", name="Ann")
    other = visit(user_id="ann", name="Ann", on=context.new_page())
    expect(page.locator(".badge")).to_have_text("1")
    expect(other.locator(".badge")).to_have_text("1")

    page.locator(LAUNCHER).click()
    expect(page.locator(".part")).to_have_count(1)

    expect(other.locator(".snippet")).to_have_count(0)
    expect(other.locator(".badge")).to_be_hidden()
    assert Conversation.objects.count() == 1


def test_image_is_sent_and_another_file_is_refused_with_the_reason(visit, tmp_path):
    chat()
    page = visit(user_id="ann")
    page.locator(LAUNCHER).click()
    picture, other = tmp_path / "photo.png", tmp_path / "fake.png"
    picture.write_bytes(PNG)
    other.write_bytes(b"MZ")
    files = page.locator("outbound-messenger input[type=file]")

    files.set_input_files(picture)
    expect(page.locator(".chip")).to_contain_text("photo.png")
    write(page, "Like this")

    image = page.locator(".part.own img")
    expect(image).to_have_attribute("alt", "photo.png")
    eventually(lambda: image.evaluate("image => image.naturalWidth") == 1, page)
    files.set_input_files(other)
    write(page, "Or this")
    expect(page.locator(".composer .trouble")).to_contain_text("Not sent. Images must be PNG")


def test_failed_message_can_be_sent_again(visit, context):
    chat()
    page = visit(user_id="ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".part")).to_have_count(1)
    context.set_offline(True)
    write(page, "Hello?")
    expect(page.locator(".pending")).to_contain_text("Not sent")

    context.set_offline(False)
    page.get_by_role("button", name="Try again").click()

    expect(page.locator(".part.own:not(.pending)")).to_contain_text("Hello?")
    assert Conversation.objects.get().parts.count() == 1


def test_message_whose_answer_was_lost_is_stored_once(visit, page):
    chat()
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".part")).to_have_count(1)

    def lose_the_answer(route) -> None:
        route.fetch()
        route.abort()

    page.route("**/reply", lose_the_answer, times=1)
    write(page, "Hello?")
    expect(page.locator(".pending")).to_contain_text("Not sent")
    assert Conversation.objects.get().parts.count() == 1
    page.get_by_role("button", name="Try again").click()

    expect(page.locator(".part.own:not(.pending)")).to_have_count(1)
    assert Conversation.objects.get().parts.count() == 1


def test_visitor_who_wrote_saves_an_email_address(visit, page):
    visit()
    page.locator(LAUNCHER).click()
    write(page, "Do you ship to Norway?")
    field = page.get_by_label("Where can we reach you after you leave this page?")
    expect(field).to_be_visible()
    assert violations(page) == []

    field.fill("bea@x")
    page.keyboard.press("Enter")
    expect(page.locator(".ask .trouble")).to_contain_text("is not a valid email address")
    field.fill("bea@x.example")
    page.get_by_role("button", name="Save email address").click()

    expect(page.get_by_text("to bea@x.example")).to_be_visible()
    assert Customer.objects.get(role="lead").email == "bea@x.example"
    page.reload()
    page.locator(LAUNCHER).click()
    page.locator(".entry").first.click()
    expect(page.locator(".part")).to_have_count(1)
    expect(field).to_have_count(0)
    said_nothing_wrong(page)


def test_html_of_a_message_is_shown_and_no_script_runs(visit, ada, page):
    chat()
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".part")).to_have_count(1)
    bad = "<p>ok <img src=x onerror='window.ran=1'><a href='javascript:window.ran=2'>link</a> &lt;i&gt; 1 &amp; 2</p>"
    conversation = Conversation.objects.get()
    answer(ada, "<p>placeholder</p>")
    # As if the server had not sanitized it: the messenger must be safe by itself.
    conversation.parts.update(body=bad + "<script>window.ran=3</script><svg onload='window.ran=4'></svg>")

    expect(page.locator(".part").nth(1)).to_contain_text("ok link <i> 1 & 2")

    link = page.locator(".part a")
    assert link.get_attribute("href") is None
    link.click()
    assert page.evaluate("window.ran") is None


# Announcement


def announcement(body: str = "<h2>New</h2><p>Read <a href='#there'>all of it</a></p>", subject: str = "Our news"):
    how = {"channel": "in_app", "format": "announcement", "live": True, "at": timezone.now()}
    return MessageFactory(**how, subject=subject, body=body)


def test_announcement_is_a_dialog_that_traps_the_focus(visit):
    announcement()
    page = visit(user_id="ann")

    dialog = page.get_by_role("dialog", name="Our news", exact=True)
    expect(dialog).to_contain_text("Read all of it")
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.localName") == "outbound-messenger"
    eventually(lambda: DeliveryRecord.objects.exclude(opened_at=None).exists(), page)
    assert DeliveryRecord.objects.get().dismissed_at is None
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    eventually(lambda: DeliveryRecord.objects.exclude(dismissed_at=None).exists(), page)
    page.reload()
    expect(page.locator(LAUNCHER)).to_be_visible()
    expect(dialog).to_be_hidden()
    said_nothing_wrong(page)


def test_title_of_an_announcement_is_in_dialog_list_and_thread(visit):
    announcement(subject='<img src=x> & news for {{ first_name | default: "you" }}')
    title = "<img src=x> & news for Ann"
    page = visit(user_id="ann", name="Ann Lee")

    dialog = page.get_by_role("dialog", name=title, exact=True)
    heading = dialog.get_by_role("heading", name=title, exact=True)
    expect(heading).to_be_focused()
    expect(dialog.locator(".head")).to_have_text("AAda")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.evaluate("Outbound('showMessages')")
    expect(page.locator(".entry .subject")).to_have_text(title)
    assert violations(page) == []
    page.locator(".entry").click()
    expect(page.locator(".part").get_by_role("heading", name=title, exact=True)).to_be_visible()
    assert violations(page) == []
    said_nothing_wrong(page)


def test_announcement_without_a_title_is_labelled_with_its_sender(visit):
    announcement(subject="")
    page = visit(user_id="ann")

    dialog = page.get_by_role("dialog", name="Ada", exact=True)
    expect(dialog.get_by_role("heading", name="Ada", exact=True)).to_be_focused()


def test_announcement_can_be_answered(visit):
    announcement()
    page = visit(user_id="ann")

    page.get_by_role("button", name="Write a reply").click()
    write(page, "Nice")

    expect(page.locator(".part.own:not(.pending)")).to_contain_text("Nice")
    assert Conversation.objects.in_inbox().get().record.message.format == "announcement"


def test_click_on_a_link_is_recorded(visit, context):
    announcement("<p><a href='http://127.0.0.1:9/there'>There</a></p>")
    page = visit(user_id="ann")

    page.get_by_role("link", name="There").click()

    eventually(lambda: DeliveryRecord.objects.exclude(clicked_at=None).exists(), page)
    eventually(
        lambda: list(Hit.objects.values_list("link__address", "number")) == [("http://127.0.0.1:9/there", 1)], page
    )


# Identity


@pytest.mark.parametrize("hash_given", ["0" * 64, ""])
def test_wrong_hash_shows_nothing_and_the_page_works(visit, page, hash_given):
    warnings: list[str] = []
    page.on("console", lambda said: warnings.append(said.text))
    CustomerFactory(user_id="ann")
    chat()

    visit(user_id="ann", user_hash=hash_given)

    eventually(lambda: any("user_hash" in said for said in warnings), page)
    assert page.locator("outbound-messenger").count() == 0
    assert not DeliveryRecord.objects.exists()
    said_nothing_wrong(page)


def test_website_that_is_not_registered_shows_nothing(visit, browser_errors):
    browser_errors.allow("blocked by CORS policy")
    Workspace.objects.update(allowed_origins=["https://elsewhere.example"])
    cache.clear()
    chat()

    page = visit(user_id="ann")

    page.wait_for_timeout(500)
    assert page.locator("outbound-messenger").count() == 0
    assert not Customer.objects.exists()
    said_nothing_wrong(page)


def test_thread_of_a_visitor_stays_after_the_login(visit, page):
    visit()
    page.locator(LAUNCHER).click()
    write(page, "Do you ship?")
    expect(page.locator(".part.own:not(.pending)")).to_contain_text("Do you ship?")
    assert Customer.objects.get().role == "lead"
    visitor = page.evaluate("Outbound('getVisitorId')")
    page.reload()
    expect(page.locator(LAUNCHER)).to_be_visible()
    assert page.evaluate("Outbound('getVisitorId')") == visitor

    visit(at="/in", user_id="ann", name="Ann")
    page.locator(LAUNCHER).click()

    page.locator(".entry").click()
    expect(page.locator(".part.own")).to_contain_text("Do you ship?")
    assert Customer.objects.get().user_id == "ann"
    assert page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"


def test_login_as_another_user_shows_nothing_of_the_first(visit, page):
    chat("<p>Hi {{ first_name }}</p>")
    visit(user_id="ann", name="Ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".part")).to_contain_text("Hi Ann")

    page.evaluate("Outbound('shutdown')")
    assert page.locator("outbound-messenger").count() == 0
    page.evaluate(f"Outbound('boot', {json.dumps(signed(user_id='bob', name='Bob'))})")

    expect(page.locator(".snippet")).to_contain_text("Hi Bob")
    page.locator(LAUNCHER).click()
    expect(page.locator(".part")).to_have_count(1)
    assert "Ann" not in page.locator("outbound-messenger").evaluate("host => host.shadowRoot.textContent")
    said_nothing_wrong(page)


# Calls of the page


def test_commands_before_loading_are_queued(live_server, site, page):
    page.add_init_script("window.seen = []")
    calls = """Outbound("boot", BOOT); Outbound("onShow", () => seen.push("shown"));
      Outbound("onHide", () => seen.push("hidden")); Outbound("trackEvent", "ordered", {total: 5});
      Outbound("showNewMessage", "About my order"); Outbound("nonsense"); Outbound("trackEvent", null);"""
    served = html(address(live_server), {}).replace('Outbound("boot", {});', calls)
    page.goto(site.put("/", served.replace("BOOT", json.dumps(signed(user_id="ann")))))

    expect(page.get_by_role("textbox", name="Write a message")).to_have_value("About my order")
    eventually(lambda: Event.objects.filter(name="ordered", metadata={"total": 5}).exists(), page)
    page.evaluate("Outbound('hide')")
    assert page.evaluate("seen") == ["shown", "hidden"]
    assert page.evaluate("Outbound('getVisitorId')") == "ann"
    said_nothing_wrong(page)


def test_settings_change_the_appearance(visit, page):
    look = {
        "hide_default_launcher": True, "custom_launcher_selector": "#help", "alignment": "left",
        "horizontal_padding": 44, "vertical_padding": 10, "action_color": "#ffdd00", "hide_notifications": True,
    }  # fmt: skip
    chat()
    visit(look=look, user_id="ann")
    expect(page.locator("outbound-messenger .outer")).to_be_attached()
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<a id=help href=/elsewhere>Help <b>me</b></a>')")
    assert page.locator(".snippet").count() == 0

    page.locator("#help b").click()

    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.locator(LAUNCHER).is_hidden()
    box = page.locator(".panel").bounding_box()
    assert box["x"] == 44
    colors = page.locator(".send").evaluate("e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]")
    assert colors == ["rgb(255, 221, 0)", "rgb(0, 0, 0)"]
    assert not page.url.endswith("/elsewhere")


# Pages that make it hard


HOSTILE = """<style>
  * { display: none !important; color: red !important; position: static !important; font: 40px fantasy !important;
      transform: rotate(3deg) !important; visibility: hidden !important; letter-spacing: 2em !important }
  html, body, main { display: block !important; visibility: visible !important; transform: none !important }
  button, textarea, h2, p, article { background: lime !important; width: 3px !important; opacity: .1 !important }
</style>"""


def test_styles_of_page_and_messenger_do_not_affect_each_other(live_server, site, page, context):
    chat("<p>Hi</p>")
    plain = context.new_page()
    plain.goto(site.put("/plain", html(address(live_server), signed(user_id="ann"))))
    page.goto(site.put("/", html(address(live_server), signed(user_id="bob"), head=HOSTILE)))
    looks = []
    for tab in (plain, page):
        tab.locator(LAUNCHER).click()
        expect(tab.locator(".part")).to_have_count(1)
        found = [tab.locator(f"outbound-messenger {name}").first for name in PIECES]
        looks.append([(piece.bounding_box(), piece.evaluate(STYLE)) for piece in found])
    assert looks[0] == looks[1]
    assert plain.locator("h1").evaluate(STYLE)[0] == "rgb(0, 0, 0)"
    said_nothing_wrong(page)


def test_messenger_defines_only_the_command_of_its_snippet(visit, page, context):
    bare = without_scripts(context.new_page(), "**/messenger/messenger.js")
    visit(user_id="ann")
    visit(user_id="ann", on=bare)
    expect(page.locator(LAUNCHER)).to_be_visible()

    assert global_names(page) - global_names(bare) == set()


PIECES = (".launcher", ".panel", ".bubble", "textarea", ".send", "h2")
STYLE = """e => ["color", "backgroundColor", "font", "letterSpacing", "visibility", "opacity"]
  .map((name) => getComputedStyle(e)[name])"""


def test_messenger_works_under_a_strict_content_security_policy(live_server, site, page):
    server = address(live_server)
    chat("<p style='color: green'>Styled <a href='https://x.example'>link</a></p>")
    policy = (
        f"default-src 'none'; script-src 'self' {server}; connect-src {server}; img-src {server}; style-src 'self';"
        " base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    boot = json.dumps(signed(user_id="ann"))
    site.put(
        "/boot.js",
        f"""window.problems = []; window.onerror = (what) => problems.push(what);
      document.addEventListener("securitypolicyviolation", (wrong) => problems.push(wrong.violatedDirective));
      const q = (window.Outbound = function () {{ q.q.push(arguments); }}); q.q = [];
      Outbound("boot", {boot});""",
    )
    page.goto(
        site.put(
            "/",
            f"""<!doctype html><html lang="en"><head><title>x</title><script src="/boot.js"></script>
            <script src="{server}/messenger/messenger.js" async></script></head><body><h1>x</h1></body></html>""",
            Content_Security_Policy=policy,
        )
    )

    page.locator(LAUNCHER).click()
    paragraph = page.locator(".part p").first
    expect(paragraph).to_have_css("color", "rgb(0, 128, 0)")
    assert page.locator(LAUNCHER).evaluate("e => getComputedStyle(e).borderRadius") == "50%"
    write(page, "Hello")
    expect(page.locator(".part.own:not(.pending)")).to_contain_text("Hello")
    said_nothing_wrong(page)


@pytest.mark.skipif(not Path(WHOLE_CHROMIUM).exists(), reason=f"There is no {WHOLE_CHROMIUM}.")
def test_messenger_works_with_blocked_storage(playwright, tmp_path, live_server, site):
    # The shell reads no preferences.
    profile = tmp_path / "profile"
    (profile / "Default").mkdir(parents=True)
    preferences = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (profile / "Default" / "Preferences").write_text(json.dumps(preferences))
    context = playwright.chromium.launch_persistent_context(
        str(profile), executable_path=WHOLE_CHROMIUM, args=ARGUMENTS
    )
    page = context.new_page()
    try:
        page.goto(site.put("/", html(address(live_server), {})))
        with pytest.raises(PlaywrightError, match="denied"):
            page.evaluate("localStorage.length")
        page.locator(LAUNCHER).click()
        write(page, "Do you ship?")
        expect(page.locator(".part.own:not(.pending)")).to_contain_text("Do you ship?")
        write(page, "To Norway?")
        expect(page.locator(".part.own:not(.pending)")).to_have_count(2)
        assert Conversation.objects.get().parts.count() == 1
        page.evaluate(f"Outbound('update', {json.dumps(signed(user_id='ann'))})")
        eventually(lambda: Customer.objects.filter(user_id="ann").exists(), page)
        assert Customer.objects.count() == 1
        said_nothing_wrong(page)
    finally:
        context.close()


def test_page_with_broken_built_ins_works(live_server, site, page):
    broken = "<script>window.fetch = () => { throw new Error('no') }; window.CSSStyleSheet = null</script>"
    page.goto(site.put("/", html(address(live_server), signed(user_id="ann"), head=broken)))

    page.wait_for_timeout(300)
    page.evaluate("Outbound('show'); Outbound('update', {a: 1}); Outbound('shutdown')")

    said_nothing_wrong(page)


def test_typing_does_not_trigger_shortcuts_of_the_page(visit, page):
    chat()
    page.add_init_script("window.keys = []; document.addEventListener('keydown', (event) => keys.push(event.key))")
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".part")).to_have_count(1)

    page.keyboard.type("kj")

    assert page.evaluate("keys") == []
    expect(page.get_by_role("textbox", name="Write a message")).to_have_value("kj")


# For everybody


def test_messenger_is_usable_with_the_keyboard(visit, page):
    chat()
    visit(user_id="ann", name="Ann")
    expect(page.locator(".snippet")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Write a message")).to_be_focused()
    page.keyboard.type("Hello")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("Ann")
    page.keyboard.press("Enter")
    expect(page.locator(".part.own:not(.pending)")).to_contain_text("Hello")
    page.keyboard.press("Escape")
    expect(page.locator(LAUNCHER)).to_be_focused()
    assert Conversation.objects.get().parts.get().body == "<p>Hello<br>Ann</p>"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violations(visit, ada, page, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    chat()
    chat("<p>And this</p>")
    visit(user_id="ann", name="Ann")
    expect(page.locator(".snippet")).to_have_count(2)
    assert violations(page) == []
    page.locator(LAUNCHER).click()
    expect(page.locator(".entry")).to_have_count(2)
    assert violations(page) == []
    page.locator(".entry").first.click()
    expect(page.locator(".part")).to_have_count(1)
    write(page, "Hello")
    expect(page.locator(".part.own:not(.pending)")).to_have_count(1)
    assert violations(page) == []
    announcement()
    page.reload()
    expect(page.locator("dialog")).to_be_visible()
    assert violations(page) == []


def test_panel_covers_the_screen_on_a_phone(visit, page):
    page.set_viewport_size({"width": 390, "height": 844})
    wide = "<img src='https://x.example/i.png' width='2000' height='9'>"
    chat(f"<p>{'Averylongwordwithoutanyspace' * 20}</p><p>{wide}</p>")
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".part")).to_have_count(1)
    page.wait_for_timeout(300)

    assert page.locator(".panel").bounding_box() == {"x": 0, "y": 0, "width": 390, "height": 844}
    for key in ["Tab"] * 8 + ["Shift+Tab"] * 8:
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.localName") == "outbound-messenger"
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator(".log").evaluate("log => log.scrollWidth <= log.clientWidth")


# For each element of a message: its name, classes, text and style. Sizes depend on the width of the window.
DRAWN = """root => [root, ...root.querySelectorAll("*")].map((element) => {
    const style = getComputedStyle(element);
    const names = ["color", "backgroundColor", "fontFamily", "fontSize", "fontWeight", "lineHeight", "margin",
        "padding", "border", "borderRadius", "display", "listStyleType", "textDecorationLine", "whiteSpace"];
    return [element.localName, element.className, element.textContent, ...names.map((name) => style[name])];
})"""


def test_the_preview_in_the_composer_is_the_messenger_of_the_website(visit, console, live_server, settings):
    settings.PUBLIC_URL = live_server.url
    CustomerFactory(user_id="ann", name="Ann Lee", email="ann@shop.example")
    body = (
        "<h2>News</h2><p>Hi <strong>{{ first_name }}</strong>, <a href='https://shop.example'>read</a></p><ul><li>One"
        "</li></ul><blockquote>Said</blockquote><table><tbody><tr><td>1</td><td>2</td></tr></tbody></table>"
    )
    parts = {"chat": ".log .part .bubble", "announcement": "dialog .scroll"}
    for form, part in parts.items():
        message = chat(body, format=form, subject="Big news" if form == "announcement" else "")
        draft = MessageFactory(in_app=True, body=body, format=form, subject=message.version.subject)
        page = visit(at=f"/{form}", user_id="ann")
        if form == "chat":
            page.locator("outbound-messenger .opens").click()
        real = page.locator(f"outbound-messenger {part}")
        expect(real).to_contain_text("Hi Ann")

        console.goto(f"{live_server.url}/admin/messaging/message/{draft.pk}/change/")
        shown = console.frame_locator(".ob-frame iframe").locator(f"outbound-messenger {part}")
        expect(shown).to_be_visible()
        assert shown.evaluate(DRAWN) == real.evaluate(DRAWN)
        console.get_by_role("button", name="Phone", exact=True).click()
        page.set_viewport_size({"width": 375, "height": 800})
        assert shown.evaluate(DRAWN) == real.evaluate(DRAWN)
        page.set_viewport_size({"width": 1280, "height": 800})
        # The messenger in the frame leaves the focus in the form while its preview refreshes.
        name = console.get_by_label("Name", exact=True)
        name.focus()
        with console.expect_response("**/preview/"):
            console.keyboard.type("New ")
        expect(shown).to_be_visible()
        expect(name).to_be_focused()
