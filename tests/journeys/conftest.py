"""Who takes part in a journey: staff at the admin's pages, a server at the API, customers in a browser, and the post.

Nothing is called but addresses and tasks. The clock stands still unless a test has time pass; then beat's own schedule
says what runs. Celery runs each task at once and in this process, as a worker with nothing else to do would.
"""

import asyncio
import json
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import unescape

import pytest
import time_machine
from aiosmtpd.smtp import SMTP
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from rest_framework.response import Response
from rest_framework.test import APIClient

from audiences import identity
from audiences.models import Customer, Integration, Workspace
from config.celery import app
from delivery import schedule, sending
from messaging.models import Message
from tests.factories import SenderFactory

HOUR = timedelta(hours=1)
COLUMNS = {"email", "name", "created_at", "signed_up_at", "unsubscribed_from_emails", "companies", "timezone"}
for noisy in ("mail.log", "celery.app.trace"):
    logging.getLogger(noisy).setLevel(logging.WARNING)


# The clock and the schedule


@dataclass
class Clock:
    """Stands still; `passes` moves it on, and beat's schedule is kept meanwhile."""

    traveller: time_machine.Traveller
    last: dict[str, datetime] = field(default_factory=dict)

    @property
    def now(self) -> datetime:
        return timezone.now()

    def passes(self, *, until: datetime | None = None, **span: float) -> None:
        """Let time pass: `passes(hours=1)`, `passes(days=3)`, `passes(until=...)`.

        What is due by the hour runs each hour; over more than half a day every six hours and over more than a week
        once a day, as if beat were slow.
        """
        end = until or self.now + timedelta(**span)
        away = end - self.now
        step = timedelta(hours=24 if away > timedelta(days=7) else 6 if away > timedelta(hours=12) else 1)
        while self.now < end:
            due = [self.last[task.name] + max(step, every(task)) for task in self.tasks() if every(task) >= HOUR]
            self.traveller.move_to(max(self.now, min([end, *due])))
            for task in self.tasks():
                if self.now >= self.last[task.name] + every(task):
                    self.last[task.name] = self.now
                    app.tasks[task.task].delay(*json.loads(task.args), **json.loads(task.kwargs))

    def comes(self, moment: str) -> None:
        """Let time pass until the next such moment by UTC: `comes("Saturday 10:00")`."""
        day, _, clock = moment.partition(" ")
        hour, minute = map(int, clock.split(":"))
        end = self.now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        while f"{end:%A}" != day or end <= self.now:
            end += timedelta(days=1)
        self.passes(until=end)

    def tasks(self) -> list[PeriodicTask]:
        found = list(PeriodicTask.objects.filter(enabled=True).exclude(interval=None).order_by("pk"))
        for task in found:
            self.last.setdefault(task.name, self.now)
        return found

    def days_ago(self, days: float) -> int:
        """That moment as a server sends it; negative days are still to come."""
        return int((self.now - timedelta(days=days)).timestamp())


def every(task: PeriodicTask) -> timedelta:
    return timedelta(**{task.interval.period: task.interval.every})


@pytest.fixture
def clock(db, at) -> Iterator[Clock]:
    """A Monday, ten o'clock UTC."""
    schedule.install()
    with time_machine.travel(at, tick=False) as traveller:
        clock = Clock(traveller)
        clock.tasks()
        yield clock


@pytest.fixture(autouse=True)
def worker(clock) -> Iterator[None]:
    """A worker that is there at once; what goes wrong in a task goes wrong in the test."""
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    yield
    app.conf.update(task_always_eager=False, task_eager_propagates=False)


@pytest.fixture
def at_once(django_capture_on_commit_callbacks):
    """Around each request, so that what it nudges is done when it is answered."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


# The post


class Post:
    """A mail server on a real socket, and every mail it took."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, EmailMessage]] = []
        self.answer, self.hangs_up = "250 Taken", False

    async def handle_DATA(self, server, _session, envelope) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        if self.hangs_up:
            server.transport.abort()
        if self.answer.startswith("250"):
            self.mails += [(recipient, mail) for recipient in envelope.rcpt_tos]
        return self.answer

    def to(self, user_id: str) -> list[EmailMessage]:
        """The mails one customer got."""
        return [mail for recipient, mail in self.mails if recipient == address(user_id)]

    def subjects_to(self, user_id: str) -> list[str]:
        return [mail["Subject"] for mail in self.to(user_id)]

    @property
    def reached(self) -> list[str]:
        """Who got mail, once for each mail they got."""
        return sorted(recipient.partition("@")[0] for recipient, _ in self.mails)


def address(user_id: str) -> str:
    return f"{user_id}@x.example"


@pytest.fixture(scope="session")
def post_office() -> Iterator[tuple[Post, int]]:
    post, loop = Post(), asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: SMTP(post, loop=loop), host="127.0.0.1", port=0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield post, server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


@pytest.fixture(autouse=True)
def post(post_office, settings) -> Iterator[Post]:
    post, port = post_office
    post.mails, post.answer, post.hangs_up = [], "250 Taken", False
    settings.EMAIL_BACKEND = "delivery.channels.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    yield post
    sending.close_channels()


# The customers' own server, at the API


class Server:
    """What a team's own server tells and asks the API."""

    def __init__(self, at_once) -> None:
        _, token = Integration.issue(name="server")
        self.http = APIClient()
        self.http.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        self.at_once = at_once

    def post(self, path: str, facts: dict[str, object]) -> Response:
        with self.at_once():
            return self.http.post(path, facts, format="json")

    def get(self, path: str, **query: object) -> Response:
        with self.at_once():
            return self.http.get(path, query)

    def user(self, user_id: str, **facts: object) -> dict[str, object]:
        """Say what is true of a user; what is no field of the API is a custom attribute. `email=None` for none."""
        sent = {"user_id": user_id, "email": address(user_id)}
        sent |= {key: value for key, value in facts.items() if key in COLUMNS}
        sent["custom_attributes"] = {key: value for key, value in facts.items() if key not in COLUMNS}
        answered = self.post("/api/users", sent)
        assert answered.status_code == 200, answered.json()
        return answered.json()

    def event(self, user_id: str, name: str) -> None:
        """Say that a user did something just now."""
        facts = {"user_id": user_id, "event_name": name, "created_at": int(timezone.now().timestamp())}
        assert self.post("/api/events", facts).status_code == 202

    def conversations(self, user_id: str) -> Response:
        """The article's call: a GET with user_id and type=user."""
        answered = self.get("/api/conversations", type="user", user_id=user_id)
        assert answered.status_code == 200, answered.json()
        return answered


@pytest.fixture
def server(at_once, clock) -> Server:
    return Server(at_once)


# A customer, in a browser


@pytest.fixture
def visit(at_once):
    """A customer logs in or visits: `visit("ann")` returns the texts of the in-app messages they are shown."""

    def visit(user_id: str, **settings: object) -> list[str]:
        return [as_words(message["body"]) for message in shown(user_id, **settings)]

    def shown(user_id: str, **settings: object) -> list[dict[str, object]]:
        user_hash = identity.user_hash(Workspace.current().identity_secret, user_id)
        settings = {"user_id": user_id, "user_hash": user_hash, **settings}
        with at_once():
            answered = APIClient().post("/messenger/ping", {"app_id": "outbound", "user": settings}, format="json")
        assert answered.status_code == 200, answered.json()
        return answered.json()["messages"]

    visit.shown = shown
    return visit


def as_words(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html)).strip()


# Staff, at the pages of the admin


class Staff:
    """A teammate who uses the console as a browser does: opens a page, fills in its form, presses a button."""

    def __init__(self, user, at_once) -> None:
        self.user, self.at_once = user, at_once
        self.sender = SenderFactory(name="Ada", email="ada@acme.example", teammate=user)
        self.browser = Client()
        self.browser.force_login(user)

    def opens(self, name: str, /, *args: object, **query: object) -> str:
        """A page's HTML: `opens("messaging_message_change", message)`."""
        answered = self.browser.get(reverse(f"admin:{name}", args=args), query)
        assert answered.status_code == 200, answered
        return answered.content.decode()

    def presses(self, name: str, /, *args: object, **fields: object) -> str:
        """What the page says after a form was posted."""
        with self.at_once():
            answered = self.browser.post(reverse(f"admin:{name}", args=args), fields, follow=True)
        assert answered.status_code == 200, answered
        return as_page(answered.content.decode())

    def reads(self, name: str, /, *args: object, **query: object) -> str:
        """What a page says, in words."""
        return as_page(self.opens(name, *args, **query))

    def composes(self, **given: object) -> str:
        """Fill in the composer of a new message and press a button (`act`); what the page says then."""
        ticket = field_of(self.opens("messaging_message_add"), "ticket")
        return self.presses("messaging_message_add", **{**self.fields(**given), "ticket": ticket})

    def edits(self, message: int, **given: object) -> str:
        """Fill in the composer of a draft anew and press a button."""
        return self.presses("messaging_message_change", message, **self.fields(**given))

    def fields(self, *, rules=(), window=(), channel="email", **given: object) -> dict[str, object]:
        rules = rules if isinstance(rules, dict) else {"match": "all", "rules": list(rules)}
        return {
            "title": "Hello",
            "channel": channel,
            "format": "chat" if channel == "in_app" else "",
            "sender": self.sender.pk,
            "subject": "" if channel == "in_app" else "Hello",
            "body": "<p>Hello there</p>",
            "text": "Hello there",
            "send_type": "ongoing",
            "rules": json.dumps(rules),
            "window": json.dumps(list(window)),
            "window_zone": "workspace",
            "act": "save",
            **given,
        }

    def saves(self, **given: object) -> int:
        """Save a draft."""
        page = self.composes(**given)
        assert "is saved as a draft" in page, page
        return Message.objects.latest("pk").pk

    def sets_live(self, **given: object) -> int:
        """Compose a message and set it live."""
        page = self.composes(**given, act="live")
        assert "is live" in page, page
        return Message.objects.latest("pk").pk

    def does(self, verb: str, message: int) -> str:
        """Press a button of a message's report: pause, resume, stop, rest, live, unschedule."""
        return self.presses("message_act", message, verb)

    def opens_profile(self, user_id: str) -> str:
        return self.opens("audiences_customer_change", Customer.objects.get(user_id=user_id).pk)

    def opens_send_a_message(self, user_id: str) -> str:
        """The page behind the button at the top right of a profile."""
        button = re.search(r'href="([^"]+)"[^>]*aria-label="Send a message"', self.opens_profile(user_id))
        assert button, "no button"
        answered = self.browser.get(button[1])
        assert answered.status_code == 200
        return answered.content.decode()

    def writes_to(self, user_id: str, **given: object) -> str:
        """Send a message from a profile, as the form stands but for what is given; what the page says then."""
        page = self.opens_send_a_message(user_id)
        chosen = re.search(r'name="way" value="(\w+)"[^>]* checked', page)
        fields = {
            "way": chosen[1] if chosen else "",
            "sender": self.sender.pk,
            "subject": "",
            "body": "<p>Hello there</p>",
            "ticket": field_of(page, "ticket"),
            **given,
        }
        return self.presses("customer_send_message", Customer.objects.get(user_id=user_id).pk, **fields)


def field_of(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, f"no field {name}"
    return unescape(found[1])


def as_page(html: str) -> str:
    """A page's words, in a row, without the menu and what can be chosen."""
    html = html.partition('<div id="main"')[2] or html
    # What is wrong with a rule stands where the page's script reads it, and shows it beside the rule.
    html = re.sub(r'<script id="rule-sentence"[^>]*>(.*?)</script>', lambda found: json.loads(found[1]), html)
    html = re.sub(r"<(script|style|select|template)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


@pytest.fixture
def staff(clock, at_once, settings, django_user_model) -> Staff:
    # A journey may take a month; nobody is to log in anew meanwhile.
    settings.SESSION_COOKIE_AGE = 10 * 365 * 24 * 3600
    user = django_user_model.objects.create_user(
        "ada", email="ada@acme.example", first_name="Ada", is_staff=True, is_superuser=True
    )
    return Staff(user, at_once)
