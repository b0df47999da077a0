"""The messenger under difficult conditions: late answers, moved elements, old libraries, hidden tabs."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone
from playwright.sync_api import Page, Route, expect

from audiences.models import Customer, Event, Workspace
from delivery.conversations import threads
from delivery.models import Conversation, DeliveryRecord
from tests.browser.conftest import ARGUMENTS, CHROMIUM, Requests, Site
from tests.browser.test_messenger import (  # noqa: F401 - fixtures among them
    LAUNCHER,
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


def hold_answer(page: Page, path: str) -> Callable[[], None]:
    """Hold back the next answer from this path; the returned function releases it."""
    held_back: list[Route] = []
    waiting: list[tuple[Route, object]] = []

    def hold(route: Route) -> None:
        # While the first is fetched, others come by.
        if held_back:
            route.continue_()
        else:
            held_back.append(route)
            waiting.append((route, route.fetch()))

    page.route(f"**/messenger/{path}", hold)

    def let_go() -> None:
        eventually(lambda: waiting, page)
        ((route, answer),) = waiting
        route.fulfill(response=answer)

    return let_go


# Identity, with late answers


def test_late_answer_to_a_visit_before_the_login_is_ignored(live_server, site, page):
    let_go = hold_answer(page, "ping")
    page.goto(site.put("/", html(address(live_server), {})))
    page.wait_for_function("window.Outbound.loaded")
    page.evaluate(f"Outbound('update', {json.dumps(signed(user_id='ann'))})")
    expect(page.locator(LAUNCHER)).to_be_visible()

    let_go()
    page.wait_for_timeout(300)

    assert page.evaluate("document.cookie") == ""
    page.locator(LAUNCHER).click()
    write(page, "It is me")
    expect(page.locator(".part.own:not(.pending)")).to_contain_text("It is me")
    assert Conversation.objects.get().customer.user_id == "ann"
    assert Customer.objects.count() == 1


def test_update_to_another_user_shows_and_sends_nothing_of_the_first(visit, page):  # noqa: F811
    chat("<p>Hi {{ first_name }}</p>")
    visit(user_id="ann", email="ann@x.example", name="Ann", look={"alignment": "left"})
    page.locator(LAUNCHER).click()
    expect(page.locator(".part")).to_contain_text("Hi Ann")
    page.evaluate("Outbound('onUnreadCountChange', (count) => (window.count = count))")

    # At once, before any answer.
    gone = f"Outbound('update', {json.dumps(signed(user_id='bob'))}); document.querySelector('outbound-messenger')"
    assert page.evaluate(gone) is None

    expect(page.locator(".snippet")).to_contain_text("Hi")
    assert "Ann" not in page.locator("outbound-messenger").evaluate("host => host.shadowRoot.textContent")
    bob = Customer.objects.get(user_id="bob")
    assert (bob.email, bob.name) == (None, "")
    assert page.locator(LAUNCHER).bounding_box()["x"] == 20


def test_visitor_keeps_the_identity_across_subdomains(playwright, live_server, site):
    arguments = [*ARGUMENTS, "--host-resolver-rules=MAP *.shop.test 127.0.0.1"]
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
    try:
        page, port = browser.new_page(), site.origin.rpartition(":")[2]
        www, app = (f"http://{name}.shop.test:{port}" for name in ("www", "app"))
        Workspace.objects.update(allowed_origins=[www, app])
        cache.clear()
        site.put("/", html(address(live_server), {}))
        site.put("/in", html(address(live_server), signed(user_id="ann")))
        page.goto(www)
        page.locator(LAUNCHER).click()
        write(page, "Do you ship?")
        expect(page.locator(".part.own:not(.pending)")).to_contain_text("Do you ship?")

        page.goto(f"{app}/in")
        page.locator(LAUNCHER).click()
        page.locator(".entry").click()

        expect(page.locator(".part.own")).to_contain_text("Do you ship?")
        assert Customer.objects.get().user_id == "ann"
        assert page.evaluate("document.cookie") == ""
    finally:
        browser.close()


def test_commands_between_logout_and_login_are_dropped(visit, page):  # noqa: F811
    visit(user_id="ann")
    expect(page.locator(LAUNCHER)).to_be_visible()

    page.evaluate("Outbound('shutdown'); Outbound('trackEvent', 'logged-out'); Outbound('show')")
    page.evaluate(f"Outbound('boot', {json.dumps(signed(user_id='bob'))})")
    expect(page.locator(LAUNCHER)).to_be_visible()
    page.evaluate("Outbound('trackEvent', 'logged-in')")

    eventually(lambda: Event.objects.exists(), page)
    assert [(event.name, event.customer.user_id) for event in Event.objects.all()] == [("logged-in", "bob")]
    assert not page.get_by_role("dialog").is_visible()


# Pages that make it hard


@pytest.mark.parametrize("side", ["right", "left"])
def test_position_is_right_although_the_page_moves_its_body(live_server, site: Site, page, side):
    chat("<p>Hi</p>")
    styles = (
        "<style>* { all: unset } html { font-size: 62.5%; direction: rtl } style { display: none }"
        " body { display: block; transform: translateX(0); filter: sepia(1); overflow: hidden; height: 3000px }"
        " #bar { position: fixed; inset: auto 0 0; height: 300px; background: red; z-index: 2147483647 }</style>"
    )
    boot = {**signed(user_id="ann"), "alignment": side}
    page.goto(site.put("/", html(address(live_server), boot, head=styles, body="<div id='bar'>Cookies!</div>")))
    expect(page.locator(".snippet")).to_be_visible()

    launcher, snippet = page.locator(LAUNCHER).bounding_box(), page.locator(".snippet").bounding_box()

    width = page.evaluate("document.documentElement.clientWidth")
    if side == "right":
        ends = [box["x"] + box["width"] for box in (launcher, snippet)]
        assert ends == [width - 20, width - 20]
    else:
        assert [launcher["x"], snippet["x"]] == [20, 20]
    assert launcher["y"] + launcher["height"] == 780
    page.locator(LAUNCHER).click()
    expect(page.locator(".part")).to_have_count(1)
    assert page.locator(".part .avatar").bounding_box()["x"] < page.locator(".part .bubble").bounding_box()["x"]


def test_removed_messenger_returns_with_the_next_command(visit, page):  # noqa: F811
    announcement()
    visit(user_id="ann")
    expect(page.locator("dialog")).to_be_visible()

    page.evaluate("document.body.innerHTML = '<h1>Another page</h1>'; Outbound('show')")

    expect(page.locator(".panel")).to_be_visible()
    assert page.locator("dialog").evaluate("dialog => dialog.matches(':modal')")
    said_nothing_wrong(page)


OLD_LIBRARIES = """<script>
  Array.prototype.toJSON = function () { return "[]"; };
  Array.prototype.each = Object.prototype.each = function () {};
  window.Promise = function () { throw new Error("no promises"); };
</script>"""


def test_old_libraries_with_to_json_do_not_change_the_facts(live_server, site, page):
    company = {"id": "6", "name": "Acme", "created_at": 1500000000}
    boot = {**signed(user_id="ann"), "companies": [company]}
    page.goto(site.put("/", html(address(live_server), boot, head=OLD_LIBRARIES)))

    page.locator(LAUNCHER).click()
    write(page, "Hello")

    expect(page.locator(".part.own:not(.pending)")).to_contain_text("Hello")
    assert Customer.objects.get().memberships.get().company.name == "Acme"
    said_nothing_wrong(page)


@pytest.mark.parametrize("name", ["URL", "Set", "JSON", "Element.prototype.append", "Array.prototype.filter"])
def test_page_with_broken_built_ins_gets_no_error(live_server, site, page, name):
    page.goto(site.put("/", html(address(live_server), signed(user_id="ann"), head=f"<script>{name} = null</script>")))

    page.wait_for_load_state("networkidle")

    said_nothing_wrong(page)


def test_custom_launcher_may_be_set_by_the_old_setting(visit, page):  # noqa: F811
    visit(user_id="ann", look={"widget": {"activator": "#help"}})
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<a id=help href=/elsewhere>Help</a>')")
    page.evaluate("Outbound('reattach_activator')")
    expect(page.locator(LAUNCHER)).to_be_visible()

    page.locator("#help").click()

    expect(page.get_by_role("dialog")).to_be_visible()
    assert not page.url.endswith("/elsewhere")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "help"


# Hidden and idle pages


AWAY = "Object.defineProperty(document, 'hidden', { get: () => window.away !== false })"


def test_announcement_in_a_hidden_tab_is_opened_when_it_is_shown(visit, page):  # noqa: F811
    page.add_init_script(AWAY)
    announcement()
    visit(user_id="ann")
    expect(page.locator("dialog")).to_be_visible()
    page.wait_for_timeout(1500)
    assert DeliveryRecord.objects.get().opened_at is None

    page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")

    eventually(lambda: DeliveryRecord.objects.get().opened_at is not None, page)


def test_polling_slows_down_in_a_hidden_tab_and_after_failures(visit, page):  # noqa: F811
    page.clock.install()
    page.add_init_script(AWAY + "; window.away = false")
    chat()
    requests = Requests(page)

    def asked_in(minutes: int, *, steps: int = 1) -> int:
        requests.asked.clear()
        for _ in range(minutes * steps):
            page.clock.run_for(60_000 // steps)
            requests.wait_for_answers()
        return len(requests.asked)

    visit(user_id="ann")
    expect(page.locator(LAUNCHER)).to_be_visible()
    seen = asked_in(3, steps=12)
    page.clock.run_for(120_000)
    idle = asked_in(4)
    page.evaluate("window.away = true")
    page.clock.run_for(60_000)
    hidden = asked_in(9)
    assert 3 * 2 <= seen <= 3 * 6
    assert idle <= 4 * 2
    assert 1 <= hidden <= 2

    page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    requests.wait_for_answers()
    page.route("**/messenger/**", lambda route: route.fulfill(status=500, body="<h1>Down</h1>"))
    asked_in(20)
    assert asked_in(20) <= 5


def test_relative_times_are_updated(visit, page):  # noqa: F811
    page.clock.install()
    chat()
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".part time")).to_have_text("Just now")

    page.clock.run_for(4 * 60_000)

    expect(page.locator(".part time")).to_contain_text("min")


def test_snippet_dismissed_in_one_tab_is_dismissed_in_the_other(visit, context, page):  # noqa: F811
    chat()
    visit(user_id="ann")
    other = visit(user_id="ann", on=context.new_page())
    expect(other.locator(".snippet")).to_be_visible()

    page.get_by_role("button", name="Dismiss").click()

    expect(other.locator(".snippet")).to_have_count(0)
    expect(other.locator(".badge")).to_have_text("1")


def test_older_conversations_can_be_loaded(visit, page):  # noqa: F811
    ann = CustomerFactory(user_id="ann")
    for number in range(60):
        at = timezone.now() - timedelta(days=number)
        threads.open_by_customer(ann, body=f"Question {number}", at=at)
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    expect(page.locator(".entry")).to_have_count(50)

    page.get_by_role("button", name="Show older (10)").click()

    expect(page.locator(".entry")).to_have_count(60)
    expect(page.locator(".older")).to_have_count(0)
    page.locator(".entry").last.click()
    expect(page.locator(".part")).to_contain_text("Question 59")


# Texts and files that cannot be sent


def test_file_that_is_not_an_image_is_refused_when_it_is_chosen(visit, page, tmp_path):  # noqa: F811
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    letter, big = tmp_path / "letter.pdf", tmp_path / "big.png"
    letter.write_bytes(b"%PDF-1.4")
    big.write_bytes(b"\0" * (5 * 2**20 + 1))
    files = page.locator("outbound-messenger input[type=file]")

    files.set_input_files(letter)
    expect(page.locator(".composer .trouble")).to_have_text("letter.pdf is not a PNG, JPEG, GIF or WebP image.")
    files.set_input_files(big)
    expect(page.locator(".composer .trouble")).to_have_text("big.png is larger than 5 MB.")
    assert page.locator(".chip").count() == 0


def test_refused_message_returns_to_the_composer(visit, page, tmp_path):  # noqa: F811
    visit(user_id="ann")
    page.locator(LAUNCHER).click()
    (tmp_path / "fake.png").write_bytes(b"MZ")
    page.locator("outbound-messenger input[type=file]").set_input_files(tmp_path / "fake.png")
    write(page, "Like this")

    expect(page.locator(".composer .trouble")).to_contain_text("Not sent. Images must be PNG")
    expect(page.get_by_role("textbox", name="Write a message")).to_have_value("Like this")
    page.get_by_role("button", name="Remove fake.png").click()
    page.get_by_role("textbox", name="Write a message").press("Enter")

    expect(page.locator(".part.own:not(.pending)")).to_contain_text("Like this")
    assert Conversation.objects.count() == 1
