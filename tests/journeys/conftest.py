"""Actors of a journey: staff on the console's pages, a server at the API, customers in a browser, and a mail server.

Journeys only call URLs and tasks. Celery runs each task immediately and in this process, like an idle worker; periodic
tasks run as beat's schedule says.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest
import time_machine
from aiosmtpd.smtp import SMTP
from django.core.cache import cache
from rest_framework.test import APIClient

from audiences import identity_verification
from audiences.models import Workspace
from config.celery import app
from delivery import process, schedule
from tests.support.clock import Clock, let_database_follow
from tests.support.mailbox import FakeMailServer
from tests.support.pages import as_words
from tests.support.staff import Staff
from tests.support.web_server import Server

for noisy in ("mail.log", "celery.app.trace"):
    logging.getLogger(noisy).setLevel(logging.WARNING)


@pytest.fixture
def clock(db, at, monkeypatch) -> Iterator[Clock]:
    """Monday, 10:00 UTC."""
    schedule.install()
    let_database_follow(monkeypatch)
    # Every journey begins at the same moment, so requests of one would count against the rate limits of the next.
    cache.clear()
    with time_machine.travel(at, tick=False) as traveller:
        clock = Clock(traveller)
        clock.tasks()
        yield clock


@pytest.fixture(autouse=True)
def worker(clock) -> Iterator[None]:
    """Run tasks immediately; an error in a task fails the test."""
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    yield
    app.conf.update(task_always_eager=False, task_eager_propagates=False)


@pytest.fixture
def at_once(django_capture_on_commit_callbacks):
    """Wrap each request, so that the tasks it enqueues have run when it returns."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture(scope="session")
def post_office() -> Iterator[tuple[FakeMailServer, int]]:
    post, loop = FakeMailServer(), asyncio.new_event_loop()

    async def listen() -> asyncio.Server:
        return await loop.create_server(lambda: SMTP(post, loop=loop), host="127.0.0.1", port=0)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(5)
    yield post, server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


@pytest.fixture(autouse=True)
def post(post_office, settings) -> Iterator[FakeMailServer]:
    post, port = post_office
    post.mails, post.answer, post.hangs_up = [], "250 Taken", False
    settings.EMAIL_BACKEND = "delivery.channels.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    yield post
    process.close_resources()


@pytest.fixture
def server(at_once, clock) -> Server:
    return Server(at_once)


@pytest.fixture
def visit(at_once):
    """Log a customer in or let them visit: `visit("ann")` returns the texts of the in-app messages shown."""

    def visit(user_id: str, **settings: object) -> list[str]:
        return [as_words(message["body"]) for message in shown_messages(user_id, **settings)]

    def shown_messages(user_id: str, **settings: object) -> list[dict[str, object]]:
        return ping(user_id, **settings)["messages"]

    def ping(user_id: str, **settings: object) -> dict[str, object]:
        user_hash = identity_verification.user_hash(Workspace.current().identity_secret, user_id)
        settings = {"user_id": user_id, "user_hash": user_hash, **settings}
        with at_once():
            answered = APIClient().post("/messenger/ping", {"app_id": "outbound", "user": settings}, format="json")
        assert answered.status_code == 200, answered.json()
        return answered.json()

    def dismiss(user_id: str) -> None:
        """Close every in-app message that the customer sees."""
        answered = ping(user_id)
        browser = APIClient(headers={"Authorization": f"Bearer {answered['token']}"})
        for message in answered["messages"]:
            marked = browser.post(f"/messenger/messages/{message['id']}/dismissed", {}, format="json")
            assert marked.status_code == 200, marked.json()

    visit.shown_messages, visit.dismiss = shown_messages, dismiss
    return visit


@pytest.fixture
def staff(clock, at_once, settings, django_user_model) -> Staff:
    # A journey may take a month; the staff session must not expire meanwhile.
    settings.SESSION_COOKIE_AGE = 10 * 365 * 24 * 3600
    user = django_user_model.objects.create_user(
        "ada", email="ada@acme.example", first_name="Ada", is_staff=True, is_superuser=True
    )
    return Staff(user, at_once)
