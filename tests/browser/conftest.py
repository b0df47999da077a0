"""Chromium and websites to open in it. Skipped if Chromium is missing, unless REQUIRE_BROWSER=1."""

import asyncio
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP
from django.contrib.auth.models import User
from django.core.signals import request_finished, request_started
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from delivery import process, schedule

WHOLE_CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
# It needs less time for a page.
CHROMIUM = shutil.which("chromium-headless-shell") or WHOLE_CHROMIUM
# First Playwright's own list, which this argument replaces; then parts of the window that no test sees. Chromium loads
# the pages of an address bar for each profile, which takes longer than ours, and starts a process for a next website.
DISABLED_FEATURES = [
    "AimEnabled", "AvoidCorsURLLoaderRestartOnRedirect", "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose", "HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades", "LensOverlay", "MediaRouter",
    "NetworkTimeServiceQuerying", "OptimizationHints", "PaintHolding", "PreconnectToSearch",
    "ThirdPartyStoragePartitioning",
    "InitialWebUI", "PreloadTopChromeWebUI", "SpareRendererForSitePerProcess", "WebUIOmniboxAimPopup",
    "WebUIOmniboxFullPopup", "WebUIOmniboxPopup", "WebUIReloadButton",
]  # fmt: skip
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", f"--disable-features={','.join(DISABLED_FEATURES)}",
]  # fmt: skip
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
# Playwright's loop runs in this thread, and the tests ask the database beside it.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
# A busy machine may take this long; an idle one takes a fraction.
expect.set_options(timeout=30_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here as a browser test."""
    here = Path(__file__).parent
    missing = not Path(CHROMIUM).exists() and os.environ.get("REQUIRE_BROWSER") != "1"
    for item in items:
        if here in item.path.parents:
            item.add_marker("browser")
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"There is no {CHROMIUM}."))


@pytest.fixture(scope="session")
def playwright() -> Iterator[object]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def chromium(playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    yield browser
    browser.close()


class BrowserErrors:
    """Script errors and error messages in the consoles of all pages of a test."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.allowed: list[str] = []
        self.is_over = False

    def watch(self, context: BrowserContext) -> None:
        context.on("weberror", lambda error: self.note(error.page, f"{error.error}"))
        context.on("console", self.note_line)

    def note_line(self, line: ConsoleMessage) -> None:
        url = line.location.get("url", "")
        # The tests see a refused form, as its answer is the page. Leaving a page aborts htmx's requests.
        is_page = line.text.startswith("Failed to load resource") and line.page and line.page.url == url
        is_aborted = re.match("htmx:(afterRequest|sendError|sendAbort)$", line.text)
        # Images in messages may have a host that does not exist; the network decides how soon the browser knows.
        is_nowhere = "net::ERR_" in line.text and re.match(r"https?://[^/]+\.example/", url)
        if line.type == "error" and not is_page and not is_aborted and not is_nowhere:
            self.note(line.page, f"{line.text} ({url})")

    def note(self, page: Page | None, text: str) -> None:
        if not self.is_over:
            self.found.append(f"{page.url if page else ''}: {text}")

    def allow(self, pattern: str) -> None:
        """Do not fail the test for errors in which this regular expression is found."""
        self.allowed.append(pattern)

    def unexpected(self) -> list[str]:
        return [wrong for wrong in self.found if not any(re.search(pattern, wrong) for pattern in self.allowed)]


@pytest.fixture
def browser_errors() -> Iterator[BrowserErrors]:
    """Fail the test on an error in any page, unless the test allows it."""
    errors = BrowserErrors()
    yield errors
    assert not errors.unexpected(), "\n".join(errors.unexpected())


class ServerRequests:
    """The requests that the server is answering. A page may send some while it closes."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.count = 0
        request_started.connect(self.begin)
        request_finished.connect(self.end)

    def begin(self, **_: object) -> None:
        self.add(1)

    def end(self, **_: object) -> None:
        self.add(-1)

    def add(self, number: int) -> None:
        with self.changed:
            self.count += number
            self.changed.notify_all()

    def wait_for_answers(self) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.count <= 0, timeout=30), "The server still answers requests."


@pytest.fixture
def server_requests() -> Iterator[ServerRequests]:
    requests = ServerRequests()
    yield requests
    request_started.disconnect(requests.begin)
    request_finished.disconnect(requests.end)


@contextmanager
def open_context(
    chromium: Browser, errors: BrowserErrors, requests: ServerRequests, **options: object
) -> Iterator[BrowserContext]:
    """Open a browser profile. Its cookies and storage end with it, and the server has answered its requests then."""
    context = chromium.new_context(reduced_motion="reduce", **options)
    context.set_default_timeout(30_000)
    errors.watch(context)
    yield context
    # Pages that close send no text that was typed last, because the next test deletes all rows.
    errors.is_over = True
    context.set_offline(True)
    context.close()
    requests.wait_for_answers()


@pytest.fixture
def context(chromium, browser_errors, server_requests) -> Iterator[BrowserContext]:
    """A browser profile; its cookies and storage end with the test."""
    size = {"width": 1280, "height": 800}
    with open_context(chromium, browser_errors, server_requests, viewport=size) as context:
        yield context


@pytest.fixture
def page(context) -> Page:
    return context.new_page()


class Requests:
    """The requests of a page to the messenger's API."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.unanswered = 0
        page.on("request", self.begin)
        page.on("requestfinished", self.end)
        page.on("requestfailed", self.end)

    def begin(self, request: Request) -> None:
        self.asked.append(request.method + request.url.partition("/messenger/")[2])
        self.unanswered += 1

    def end(self, _request: Request) -> None:
        self.unanswered -= 1

    def wait_for_answers(self) -> None:
        """Wait until the page has sent its requests and each has an answer."""
        self.page.wait_for_timeout(60)
        while self.unanswered > 0:
            self.page.wait_for_timeout(20)


@dataclass
class Site:
    """A customer's website: pages by path, each with headers of its own; another origin than ours."""

    origin: str
    pages: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)

    def put(self, path: str, html: str, **headers: str) -> str:
        """Serve a page at this path and return its URL."""
        self.pages[path] = (html, {name.replace("_", "-"): value for name, value in headers.items()})
        return self.origin + path


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            html, headers = found.pages.get(self.path, ("", {}))
            # Browsers ask for an icon, and a website without one would log an error.
            missing = 204 if self.path == "/favicon.ico" else 404
            self.send_response(200 if self.path in found.pages else missing)
            kind = "text/javascript" if self.path.endswith(".js") else "text/html; charset=utf-8"
            for name, value in {"Content-Type": kind, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Site(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def violations(page: Page, *, within: str = "document") -> list[str]:
    """Return axe's findings as text."""
    # A page's own policy does not apply to the tools of a test.
    if not page.evaluate("!!window.axe"):
        page.evaluate(AXE + ";0")
    found = page.evaluate(f"axe.run({within}, {{resultTypes: ['violations']}})")
    return [
        f"{wrong['id']}: {wrong['help']} ({json.dumps([node['target'] for node in wrong['nodes']])})"
        for wrong in found["violations"]
    ]


def global_names(page: Page) -> set[str]:
    """Return the global names of a page: properties of window, and names declared by let, const and class."""
    declared = page.context.new_cdp_session(page).send("Runtime.globalLexicalScopeNames")["names"]
    return {*page.evaluate("Object.getOwnPropertyNames(window)"), *declared}


def without_scripts(page: Page, pattern: str) -> Page:
    """Serve the scripts at these URLs as empty files."""
    page.route(pattern, lambda route: route.fulfill(body="", content_type="text/javascript"))
    return page


class Post:
    """An SMTP server that stores received emails."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _server, _session, envelope) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"

    def only(self) -> EmailMessage:
        (mail,) = self.mails
        return mail


@pytest.fixture
def post(settings) -> Iterator[Post]:
    """An SMTP server that the settings name."""
    kept, loop = Post(), asyncio.new_event_loop()
    servers: list[asyncio.Server] = []
    ready = threading.Event()

    def serve() -> None:
        servers.append(loop.run_until_complete(loop.create_server(lambda: SMTP(kept, loop=loop), "127.0.0.1", 0)))
        ready.set()
        loop.run_forever()

    # In a thread, because Playwright's own loop runs in this one.
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    ready.wait(5)
    settings.EMAIL_BACKEND = "delivery.channels.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = servers[0].sockets[0].getsockname()[:2]
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    yield kept
    process.close_resources()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


@pytest.fixture
def console(context, live_server, transactional_db) -> Page:
    """A page with the boss logged in."""
    schedule.install()
    boss = User.objects.create_superuser("boss", "boss@acme.example", "pass")
    client = Client()
    client.force_login(boss)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    page = context.new_page()
    page.set_viewport_size({"width": 1440, "height": 900})
    return page


def press_and_confirm(page: Page, name: str) -> None:
    """Press a button that opens the final sheet, then the button of the same name in the sheet."""
    page.get_by_role("button", name=name, exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()


def choose_attribute(page: Page, label: str) -> None:
    """Choose the attribute of the only rule in the rule builder."""
    field = page.get_by_label("Attribute")
    field.fill(label)
    field.press("Enter")
    expect(field).to_have_value(label)
