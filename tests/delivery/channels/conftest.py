"""A mail server for each test, set in the settings."""

from collections.abc import Callable, Iterator
from itertools import chain

import pytest

from delivery.channels.email import Email
from tests.support.smtp_server import Act, Answer, Server

# A step that hangs waits for SHORT. No other step waits: PATIENT only bounds a step on a busy machine.
SHORT, PATIENT = 1, 10


@pytest.fixture
def server(settings) -> Iterator[Callable[..., Server]]:
    """Start a server with scripted answers for each step: `server(RCPT="550 no")`, `server(MAIL=[first, then])`."""
    started: list[Server] = []

    def start(*, certificate: tuple[str, str] | None = None, **answers: Answer | list[Answer]) -> Server:
        told = {step: answer if isinstance(answer, list) else [answer] for step, answer in answers.items()}
        started.append(Server(told, certificate=certificate))
        settings.EMAIL_TIMEOUT = SHORT if Act.HANG in chain(*told.values()) else PATIENT
        settings.EMAIL_PORT = started[-1].port
        return started[-1]

    settings.EMAIL_BACKEND = "delivery.channels.smtp.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    yield start
    for each in started:
        each.close()


@pytest.fixture
def channel() -> Iterator[Email]:
    email = Email()
    yield email
    email.close()
