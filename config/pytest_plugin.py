"""The pytest plugin for the test database. It is loaded by name, because settings are read before any conftest."""

import contextlib
import gc
import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from psycopg import sql

from config.postgres import embedded
from config.postgres.server import Server

ROOT = Path(__file__).resolve().parents[1]
# Everything that decides how a migrated database looks: our migrations, the modules that they call, the libraries.
MIGRATED_BY = ("*/migrations/*.py", "outbound/roles.py", "delivery/schedule.py", "requirements*.lock")


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """Start the test server unless DATABASE_URL names another; xdist's workers inherit the address."""
    server = ExitStack()
    early_config.add_cleanup(server.close)
    if sys.dont_write_bytecode:
        # Every process of the tests would compile every module again; here they share a folder.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(ROOT / ".data" / "bytecode")
        sys.dont_write_bytecode = False
    if not os.environ.get("BROKER_DIR"):
        # A separate broker, so that a running demo does not receive the nudges of tests.
        os.environ["BROKER_DIR"] = server.enter_context(TemporaryDirectory(prefix="outbound-broker-"))
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        # The spans of tests are not for the collector of this machine.
        del os.environ[name]
    # Enables the webhooks of email providers.
    os.environ["WEBHOOK_SECRET"] = "provider:secret"  # noqa: S105 - used by tests only
    if not os.environ.get("DATABASE_URL"):
        server.enter_context(embedded.database("test"))
        # A separate name, so that two runs at once do not drop each other's database.
        test_server = embedded.SERVERS["test"]
        os.environ["TEST_DATABASE_TEMPLATE"] = template_database(test_server)
        os.environ["DATABASE_URL"] = test_server.url(f"outbound_{os.getpid()}")
    return (yield)


def template_database(server: Server) -> str:
    """Return the name of a migrated database for the tests to copy; create it if a migration has changed.

    Migrations take most of the time a test database needs, and each worker needs one.
    """
    digest = hashlib.sha256()
    for path in sorted(path for pattern in MIGRATED_BY for path in ROOT.glob(pattern)):
        digest.update(path.read_bytes())
    name = f"template_{digest.hexdigest()[:16]}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        found = connection.execute(r"SELECT datname FROM pg_database WHERE datname LIKE 'template\_%'").fetchall()
        if (name,) in found:
            return name
        # Under another name until it is complete: a run that is interrupted leaves no half-migrated template.
        draft = f"draft_{os.getpid()}"
        server.create(draft)
        environment = {**os.environ, "DATABASE_URL": server.url(draft)}
        command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)  # noqa: S603
        for (old,) in found:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(old)))
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(draft), sql.Identifier(name))
        connection.execute(rename)
    return name


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Import all test modules. Each of xdist's workers starts at another one, so it finds most of them compiled."""
    gc.disable()
    worker = getattr(session.config, "workerinput", None)
    if worker and session.config.args == session.config.getini("testpaths"):
        names = sorted(
            ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.glob("tests/**/test_*.py")
        )
        first = len(names) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        for name in names[first:] + names[:first]:
            # The collection reports the error.
            with contextlib.suppress(Exception, pytest.skip.Exception):
                importlib.import_module(name)


def pytest_collection_finish() -> None:
    """Exclude the modules and the tests from garbage collection, and collect less often than a small program must."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make captured logs valid text for xdist, even if a test logs invalid Unicode."""
    report = yield
    report.sections = [(name, printable(text)) for name, text in report.sections]
    return report


def printable(text: str) -> str:
    """Return the text with unencodable characters escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
