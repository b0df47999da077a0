"""The statement timeout of web processes: longer for exports, none for workers."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, transaction
from django.test import Client

from audiences.models import Customer, Integration, Tag
from audiences.transactions import hit_time_limit
from outbound.console import timeouts
from outbound.people.export import csv_lines
from tests.factories import CustomerFactory
from tests.support.fresh_settings import execute_settings
from tests.support.web_process import database_url, web_process

ROOT = Path(__file__).parents[3]


def timeout_now() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        return cursor.fetchone()[0]


def sleep(seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


def python(code: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


@pytest.fixture
def limited(settings, transactional_db) -> Iterator[None]:
    settings.WEB_STATEMENT_TIMEOUT = 1
    connection.close()
    timeouts.limit_statements()
    connection.ensure_connection()
    yield
    timeouts.connection_created.disconnect(dispatch_uid="outbound.console.timeouts")
    connection.close()


@contextmanager
def locked_table(name: str) -> Iterator[None]:
    """Lock a table in another session, so that queries of it wait."""
    taken, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
            taken.set()
            let_go.wait(60)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert taken.wait(30)
        yield
    finally:
        let_go.set()
        holder.join()


@pytest.mark.usefixtures("limited")
def test_a_statement_that_runs_too_long_is_cancelled_and_the_connection_stays_usable():
    with pytest.raises(OperationalError) as wrong:
        sleep(5)

    assert hit_time_limit(wrong.value)
    assert timeout_now() == "1s"


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("ends_well", [True, False])
def test_a_longer_limit_holds_inside_the_block_alone(settings, ends_well):
    settings.WEB_LONG_STATEMENT_TIMEOUT = 600 if ends_well else 2
    try:
        with timeouts.longer_statements():
            assert timeout_now() == ("10min" if ends_well else "2s")
            sleep(1.2 if ends_well else 5)
    except OperationalError:
        assert not ends_well

    assert timeout_now() == "1s"


@pytest.mark.usefixtures("limited")
def test_an_export_that_its_reader_leaves_gives_the_limit_back():
    CustomerFactory.create_batch(3)
    export = csv_lines(Customer.objects.order_by("pk"), {})
    next(export)
    next(export)
    assert timeout_now() == "10min"

    export.close()

    assert timeout_now() == "1s"


@pytest.mark.django_db
def test_without_a_setting_no_limit_is_set():
    with timeouts.longer_statements():
        assert timeout_now() == "0"


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("module", "environment", "found"),
    [
        ("config.wsgi", {}, ["30s", "30s"]),
        ("config.wsgi", {"DATABASE_POOL_SIZE": "1", "WEB_STATEMENT_TIMEOUT": "7"}, ["7s", "7s"]),
        ("config.wsgi", {"WEB_STATEMENT_TIMEOUT": "0"}, ["0", "0"]),
        ("config.celery", {}, ["0", "0"]),
        ("config.celery", {"DATABASE_POOL_SIZE": "1"}, ["0", "0"]),
    ],
)
def test_web_connections_have_the_limit_and_workers_do_not(module, environment, found):
    code = (
        f"import {module}, django; django.setup()\n"
        "from django.db import connection\n"
        "import json; found = []\n"
        "for _ in range(2):\n"
        "    with connection.cursor() as cursor:\n"
        "        cursor.execute('SHOW statement_timeout'); found.append(cursor.fetchone()[0])\n"
        "    connection.close()\n"
        "print(json.dumps(found))\n"
    )
    there = {**os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "config.settings", **environment}

    assert json.loads(python(code, there).stdout) == found


def test_a_limit_below_nothing_stops_the_start():
    with pytest.raises(ImproperlyConfigured, match="WEB_STATEMENT_TIMEOUT must be a whole number from 0 to 86400: -1"):
        execute_settings(WEB_STATEMENT_TIMEOUT="-1")


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_request_that_waits_too_long_gets_a_503_with_the_reason(tmp_path):
    _, token = Integration.issue(name="The shop")
    Tag.objects.create(name="vip", created_at="2026-01-01T00:00:00Z")
    grace = User.objects.create(username="grace", is_staff=True)
    grace.user_permissions.add(*Permission.objects.filter(content_type__app_label="audiences"))
    browser = Client()
    browser.force_login(grace)
    cookie = f"sessionid={browser.cookies['sessionid'].value}"

    with web_process(tmp_path, WEB_STATEMENT_TIMEOUT="1") as web:
        with locked_table("audiences_tag"):
            api = web.get("/api/tags", Authorization=f"Bearer {token}")
            page = web.get("/admin/audiences/tag/", Cookie=cookie, Accept="text/html,*/*;q=0.8")
            script = web.get("/admin/audiences/tag/", Cookie=cookie, Accept="*/*")
        assert "200 OK" in web.get("/api/tags", Authorization=f"Bearer {token}")
        assert "200 OK" in web.get("/admin/audiences/tag/", Cookie=cookie, Accept="text/html")

    for answer in (api, page, script):
        assert answer.startswith("HTTP/1.1 503 "), answer
        assert "The request took too long, and nothing was changed." in answer
    assert '"code":"service_unavailable"' in api
    assert "<h1>This took too long</h1>" in page
    assert '{"wrong": "' in script
    assert "Traceback" not in web.log.read_text()
