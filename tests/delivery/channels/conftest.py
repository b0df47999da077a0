"""A mail server for each test, set in the settings."""

from collections.abc import Callable, Iterator

import pytest

from delivery.channels.email import Email
from tests.support.smtp_server import Answer, Server

SHORT = 0.2


@pytest.fixture
def server(settings) -> Iterator[Callable[..., Server]]:
    """Start a server with scripted answers for each step: `server(RCPT="550 no")`, `server(MAIL=[first, then])`."""
    started: list[Server] = []

    def start(*, certificate: tuple[str, str] | None = None, **answers: Answer | list[Answer]) -> Server:
        told = {step: answer if isinstance(answer, list) else [answer] for step, answer in answers.items()}
        started.append(Server(told, certificate=certificate))
        settings.EMAIL_PORT = started[-1].port
        return started[-1]

    settings.EMAIL_BACKEND = "delivery.channels.smtp.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_TIMEOUT = SHORT
    yield start
    for each in started:
        each.close()


@pytest.fixture
def channel() -> Iterator[Email]:
    email = Email()
    yield email
    email.close()
