"""The demo in a shell of a deployment: it ignores the deployment's variables and names them without their values."""

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection

from audiences.models import Customer, Integration
from config import settings
from config.demo import database
from config.demo.environment import DEPLOYMENT, TUNING, drop_deployment, is_of_deployment
from config.environment import sign_in
from tests.support.fresh_settings import execute_settings


def variables_read_by_settings() -> set[str]:
    source = Path(settings.__file__).read_text() + Path(sign_in.__file__).read_text()
    found = set(re.findall(r"""\bread_\w+\(\s*["']([A-Z0-9_]+)["']""", source))
    assert len(found) > 40
    return found


def test_each_variable_of_the_settings_is_in_a_table():
    undecided = {name for name in variables_read_by_settings() if name not in TUNING and not is_of_deployment(name)}

    assert undecided == set(), "Add each to a table of config/demo/environment.py."
    assert not {name for name in TUNING if is_of_deployment(name)}


def test_tables_name_no_unused_variable():
    by_others = {
        "DJANGO_SETTINGS_MODULE",
        "FORWARDED_ALLOW_IPS",
        "GUNICORN_CMD_ARGS",
        "PROMETHEUS_MULTIPROC_DIR",
        "WEB_CONCURRENCY",
    }

    assert (TUNING | DEPLOYMENT) - by_others - variables_read_by_settings() == set()


@pytest.mark.parametrize(
    "name",
    [
        *("DATABASE_URL", "CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL", "CACHE_URL", "EMAIL_URL", "EMAIL_BACKEND"),
        *("FCM_CREDENTIALS", "ANYMAIL_POSTMARK_SERVER_TOKEN", "SECRET_KEY", "MEDIA_ROOT", "FLIGHTS_DIR", "BROKER_DIR"),
        *("PGHOSTADDR", "PGSERVICE", "DJANGO_SETTINGS_MODULE", "GUNICORN_CMD_ARGS"),
    ],
)
def test_variable_of_a_deployment_is_dropped_and_named(name):
    there = {name: "value", "PATH": "/bin"}

    assert drop_deployment(there) == [name]
    assert there == {"PATH": "/bin"}


@pytest.mark.parametrize("name", ["PORT", "API_RATE_LIMIT", "WORKER_CONCURRENCY", "LOG_LEVEL"])
def test_variable_that_tunes_the_demo_is_kept(name):
    there = {name: "1"}

    assert drop_deployment(there) == []
    assert there == {name: "1"}


def test_empty_variable_is_dropped_silently():
    there = {"DATABASE_URL": ""}

    assert drop_deployment(there) == []
    assert there == {}


@pytest.mark.django_db
@pytest.mark.parametrize("carried", [{}, {"DEMO": "1"}])
def test_fill_demo_refuses_another_database(monkeypatch, tmp_path, settings, carried):
    settings.DATA_DIR = tmp_path
    settings.DEMO = bool(carried)
    for name, value in carried.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(CommandError, match="fills only the embedded database"):
        call_command("fill_demo")

    assert not User.objects.exists()
    assert not Integration.objects.exists()
    assert not Customer.objects.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.django_db
def test_mark_alone_is_not_enough(tmp_path, settings):
    settings.DATA_DIR = tmp_path
    database.mark()
    with connection.cursor() as cursor:
        assert database.is_marked(cursor)

    with pytest.raises(CommandError, match="fills only the embedded database"):
        call_command("fill_demo")


def test_demo_with_a_database_url_stops_the_start():
    url = "postgres://nobody@127.0.0.1:1/nothing"
    with pytest.raises(ImproperlyConfigured, match="DEMO must not be set if DATABASE_URL names your own server"):
        execute_settings(DEMO="1", DATABASE_URL=url, SECRET_KEY="secretword")
