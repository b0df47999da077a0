"""Real parts: a mail server, a broker of files, and Celery processes that work on the test's database."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from django.conf import settings as configured
from django.db import connection
from kombu import Connection

from audiences.models import Workspace
from config import supervisor
from config.supervisor import Program, Running
from delivery import process, schedule, tasks
from tests.support.mail_catcher import Catcher


@pytest.fixture
def catcher() -> Iterator[Catcher]:
    catcher = Catcher()
    yield catcher
    process.close_resources()
    catcher.close()


@pytest.fixture
def migrated(transactional_db) -> None:
    """Restore the rows of migrations that a flush removed."""
    Workspace.current()
    schedule.install()


@pytest.fixture
def environment(migrated, catcher, tmp_path) -> dict[str, str]:
    """The environment of a process that works on this test's database, with its own broker and mail server."""
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("EMAIL_", "CELERY_"))}
    return {
        **ours,
        "DATABASE_URL": database.geturl(),
        "SECRET_KEY": configured.SECRET_KEY,
        "BROKER_DIR": str(tmp_path / "broker"),
        "EMAIL_URL": f"smtp://127.0.0.1:{catcher.port}",
        "WORKER_CONCURRENCY": "1",
    }


@pytest.fixture
def celery(environment, tmp_path) -> Iterator[Callable[..., Running]]:
    """Start a Celery program: `celery("worker")`, `celery("beat", "--pidfile", "")`; none outlives the test."""
    with ExitStack() as ends:

        def start(*command: str) -> Running:
            program = Program(name=command[0], command=(sys.executable, "-m", "celery", "-A", "config", *command))
            running = supervisor.start(program, environment=environment, logs=tmp_path)
            ends.callback(supervisor.wait_until_gone, [running], seconds=5)
            ends.callback(running.kill)
            return running

        yield start


@pytest.fixture
def nudge(environment) -> Callable[[], object]:
    """Let a worker send due records."""
    options = {"folder": environment["BROKER_DIR"]}

    def nudge() -> None:
        with Connection("files://", transport_options=options) as broker:
            tasks.hand_over_due.apply_async(connection=broker)

    return nudge


def eventually(
    holds: Callable[[], object], *, within: float, while_running: tuple[Running, ...] = (), every: float = 0.02
) -> None:
    """Wait until a condition holds; fail if it does not in time, or if a program ends first."""
    deadline = time.monotonic() + within
    while not holds():
        try:
            supervisor.check(while_running)
        except supervisor.Ended:
            # The end of the program may be what makes the condition true, just after it was asked.
            if holds():
                return
            raise
        assert time.monotonic() < deadline, "\n".join(one.log.read_text()[-3000:] for one in while_running)
        time.sleep(every)
