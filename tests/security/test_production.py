"""Settings of a production server: Django's deployment check reports no issues."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PRODUCTION = {
    "DATABASE_URL": "postgres://outbound:secret@db.internal/outbound",
    "SECRET_KEY": "Zk3-cT9_vQ1xW7mB5nL0pR8sD2fG6hJ4yU-aE_iO9qKtXwVzNbMrHgFdSpCl",
    "PUBLIC_URL": "https://outbound.example.com",
    "ALLOWED_HOSTS": "outbound.example.com",
    "CELERY_BROKER_URL": "redis://broker.internal/0",
    "BEHIND_PROXY": "true",
}


def django(*said: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run Django in its own process with the settings of a production server only."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(  # noqa: S603
        [sys.executable, *said],
        cwd=ROOT,
        env={**kept, **PRODUCTION, **changes},
        capture_output=True,
        text=True,
        timeout=120,
    )


def setting(*names: str, **changes: str) -> list[str]:
    code = "from django.conf import settings\n" + "\n".join(f"print(settings.{name})" for name in names)
    done = django("-c", code, **{"DJANGO_SETTINGS_MODULE": "config.settings", **changes})
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_deployment_check_reports_no_issues():
    checked = django("manage.py", "check", "--deploy", "--fail-level", "DEBUG")

    assert checked.returncode == 0, checked.stderr
    assert "no issues" in checked.stdout + checked.stderr


def test_deployment_check_reports_insecure_settings():
    checked = django(
        "manage.py", "check", "--deploy", "--fail-level", "WARNING", PUBLIC_URL="http://outbound.example.com"
    )

    assert checked.returncode != 0
    assert "security.W012" in checked.stderr


@pytest.mark.parametrize(
    ("name", "by_https", "by_http"),
    [
        ("SESSION_COOKIE_SECURE", "True", "False"),
        ("CSRF_COOKIE_SECURE", "True", "False"),
        ("SECURE_SSL_REDIRECT", "True", "False"),
        ("SECURE_HSTS_SECONDS", "31536000", "0"),
        ("SECURE_HSTS_INCLUDE_SUBDOMAINS", "True", "False"),
        ("SESSION_COOKIE_HTTPONLY", "True", "True"),
        ("SESSION_COOKIE_SAMESITE", "Lax", "Lax"),
        ("X_FRAME_OPTIONS", "DENY", "DENY"),
        ("DEBUG", "False", "False"),
        ("DEMO", "False", "False"),
        ("WEBHOOKS_TO_PRIVATE_ADDRESSES", "False", "False"),
    ],
)
def test_https_public_url_turns_on_secure_settings(name, by_https, by_http, both):
    assert both[name] == (by_https, by_http)


@pytest.fixture(scope="module")
def both(request) -> dict[str, tuple[str, str]]:
    """Read all settings of the table in two processes."""
    (mark,) = test_https_public_url_turns_on_secure_settings.pytestmark
    names = [row[0] for row in mark.args[1]]
    https, http = setting(*names), setting(*names, PUBLIC_URL="http://outbound.example.com")
    return dict(zip(names, zip(https, http, strict=True), strict=True))


def test_server_does_not_start_without_a_secret_key():
    started = django("manage.py", "check", SECRET_KEY="")

    assert started.returncode != 0
    assert "SECRET_KEY must be set" in started.stderr


def test_each_secure_setting_can_be_set_separately():
    assert setting(
        "SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS", SECURE_SSL_REDIRECT="false", SECURE_HSTS_SECONDS="60"
    ) == [
        "False",
        "60",
    ]
