"""The pytest plugin that gives the tests a database: loaded by name, because settings are read before any conftest."""

import os
from collections.abc import Generator
from contextlib import ExitStack
from tempfile import TemporaryDirectory

import pytest

from config.postgres import embedded


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """Start the test server unless DATABASE_URL names another; xdist's workers inherit the address."""
    server = ExitStack()
    early_config.add_cleanup(server.close)
    if not os.environ.get("BROKER_DIR"):
        # Nor are the nudges of tests for the worker of a demo that runs beside them.
        os.environ["BROKER_DIR"] = server.enter_context(TemporaryDirectory(prefix="outbound-broker-"))
    # So that there are webhooks for providers of mail.
    os.environ["WEBHOOK_SECRET"] = "provider:secret"  # noqa: S105 - of no use but to tests
    if not os.environ.get("DATABASE_URL"):
        server.enter_context(embedded.database("test"))
        # A name of its own, so that two runs at once do not drop each other's database.
        os.environ["DATABASE_URL"] = embedded.SERVERS["test"].url(f"outbound_{os.getpid()}")
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have what was logged be text that xdist can pass on, whatever a test has somebody say."""
    report = yield
    report.sections = [(name, printable(text)) for name, text in report.sections]
    return report


def printable(text: str) -> str:
    """Text with what no encoding holds written out."""
    return text.encode("utf-8", "backslashreplace").decode()
