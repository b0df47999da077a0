"""Fixtures and hooks of all tests. `config.pytest_plugin` starts the database before the settings are read."""

import os
from collections.abc import Generator, Iterator
from datetime import UTC, datetime

import pytest
from django.contrib.staticfiles import handlers
from django.core.cache import cache
from django.db import connection
from pytest_django import DjangoDbBlocker
from whitenoise.middleware import WhiteNoiseMiddleware

from delivery import process
from delivery.monitoring import invariants
from tests.support import account_mail, examples, flush

examples.load_profile()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Copy a migrated database instead of running every migration, in each worker."""
    if template := os.environ.get("TEST_DATABASE_TEMPLATE"):
        # `migrate` would build every model of every migration once more, only to find nothing to do.
        connection.settings_dict["TEST"] |= {"TEMPLATE": template, "MIGRATE": False}


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    flush.install(django_db_blocker)


@pytest.fixture(scope="session", autouse=True)
def static_files() -> Iterator[None]:
    """List the static files once, not for each new client, and let WhiteNoise serve them in live_server too."""
    scan, lists = WhiteNoiseMiddleware.add_files_from_finders, {}

    def add_files(middleware: WhiteNoiseMiddleware) -> None:
        if middleware.static_prefix not in lists:
            scan(middleware)
            lists[middleware.static_prefix] = middleware.files
        middleware.files.update(lists[middleware.static_prefix])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", add_files)
        patch.setattr(handlers, "StaticFilesHandler", lambda application: application)
        yield


@pytest.fixture
def at() -> datetime:
    """A fixed moment: a Monday, ten o'clock UTC."""
    return datetime(2026, 5, 4, 10, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def fast_passwords(settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def logins_without_a_throttle(settings) -> None:
    """Switch the lockout off, because tests log in without a request. Its own test switches it on."""
    settings.AXES_ENABLED = False


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """Start each test like a new process: with empty caches and closed channels, and no email under way."""
    process.reset()
    cache.clear()
    yield
    account_mail.wait_for_account_mail()
    process.reset()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long tests first, then processes, which mostly wait, and browsers: xdist's workers share the rest last."""
    first = ("long", "processes", "browser")
    items.sort(key=lambda item: next((n for n, name in enumerate(first) if item.get_closest_marker(name)), len(first)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if flush.needs_rows(item):
        flush.restore_rows()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Check the invariants of the database after every journey and trial."""
    done = yield
    among = {"db", "transactional_db"} & set(getattr(item, "fixturenames", ()))
    marked = item.get_closest_marker("django_db") is not None
    if {"journeys", "trials"} & set(item.path.parts) and (among or marked):
        assert list(invariants.find_violations(at=None)) == []
    return done
