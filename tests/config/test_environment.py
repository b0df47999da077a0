"""Environment variables: a wrong value stops the start, and the message names the variable and the allowed values."""

import re

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db.migrations.recorder import MigrationRecorder

from config.environment import urls, variables
from tests.support.fresh_settings import SETTINGS, execute_settings, load_settings

NUMBER, FLAG = "a whole number", "true or false"
# For each variable with a form: a wrong value, and a part of the message.
WRONG: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        (
            *("DATABASE_POOL_SIZE", "DATABASE_CONN_MAX_AGE", "WEB_STATEMENT_TIMEOUT", "WEB_LONG_STATEMENT_TIMEOUT"),
            *("MAIL_FILES_MOST", "MAIL_FILE_LARGEST_MB", "LOGIN_TRIES", "SECURE_HSTS_SECONDS", "EMAIL_TIMEOUT"),
            *("PUSH_TIMEOUT", "EMAIL_CONNECTIONS", "PUSH_CONNECTIONS", "IN_FLIGHT", "WEBHOOK_CONNECTIONS"),
            *("WORKER_CONCURRENCY", "BEAT_LATE", "SWEEP_LATE", "DUE_LATE", "WATCH_EVERY", "ALARM_OVER_AFTER"),
            *("REFUSED_VISITORS_ALARM", "API_RATE_LIMIT", "MESSENGER_RATE_LIMIT"),
        ),
        ("abc", NUMBER),
    ),
    **dict.fromkeys(
        (
            *("DEBUG", "DEMO", "HTTPS", "SECURE_SSL_REDIRECT", "SECURE_HSTS_INCLUDE_SUBDOMAINS"),
            *("SECURE_HSTS_PRELOAD", "BEHIND_PROXY", "CHANGE_DRIVEN_MATCHING", "WEBHOOKS_TO_PRIVATE_ADDRESSES"),
        ),
        ("ture", FLAG),
    ),
    "DATABASE_URL": ("", "postgres://user:password@host/name"),
    "ALLOWED_HOSTS": ("https://outbound.example.com", "host names without scheme"),
    "CSRF_TRUSTED_ORIGINS": ("outbound.example.com", "origins with their scheme"),
    "PUBLIC_URL": ("outbound.example.com", "https://outbound.example.com"),
    "CACHE_URL": ("memcached://host", "redis://host/1"),
    "CELERY_BROKER_URL": ("sqs://key:secret@", "redis://host/0"),
    "EMAIL_URL": ("nonsense", "smtp+tls://user:password@host:port"),
    "DEFAULT_FROM_EMAIL": ("acme", "Acme <support@example.com>"),
    "MESSAGE_ID_DOMAIN": ("ada@acme.example", "a domain name"),
    "INBOUND_DOMAIN": ("ada@acme.example", "a domain name"),
    "BOUNCE_DOMAIN": ("ada@acme.example", "a domain name"),
    "FEEDBACK_ADDRESS": ("acme.example", "an email address"),
    "DNS_SERVER": ("ns.acme.example", "an IP address with or without a port"),
    "WEBHOOK_SECRET": ("secretword", "user:password"),
    "FCM_URL": ("fcm.example", "a URL with its scheme"),
    "OIDC_ISSUER": ("http://login.example.com", "a URL with https"),
    "MEDIA_BUCKET": ("s3://files", "the name of a bucket"),
    "LOG_FORMAT": ("xml", "line, json"),
    "LOG_LEVEL": ("loud", "DEBUG, INFO, WARNING, ERROR, CRITICAL"),
}
# Text of any form: keys, tokens, folders, and a class that Django imports itself.
ANY_TEXT = {"SECRET_KEY", "SECRET_KEY_FALLBACKS", "MEDIA_ROOT", "EMAIL_BACKEND", "FCM_CREDENTIALS", "FLIGHTS_DIR"}
ANY_TEXT |= {"BROKER_DIR", "METRICS_TOKEN", "METRICS_DIR", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET", "OIDC_NAME"}
# Those of SAML are read together.
ANY_TEXT |= {"SAML_ENTITY_ID", "SAML_SSO_URL", "SAML_CERTIFICATE", "SAML_NAME"}


def test_every_variable_of_the_settings_is_listed():
    source = SETTINGS.read_text() + (SETTINGS.parent / "environment" / "sign_in.py").read_text()
    assert set(re.findall(r"read_\w+\(\s*\"([A-Z_]+)\"", source)) == set(WRONG) | ANY_TEXT


def test_wrong_value_stops_the_start_with_its_name_and_the_allowed_values():
    for name, (given, allowed) in WRONG.items():
        with pytest.raises(ImproperlyConfigured) as refused:
            execute_settings(**{name: given})
        assert str(refused.value).startswith(f"{name} must be"), name
        assert allowed in str(refused.value), name
        if given and name not in ("WEBHOOK_SECRET", "EMAIL_URL", "CACHE_URL", "CELERY_BROKER_URL"):
            assert given in str(refused.value), name


def test_every_number_has_an_upper_bound_and_no_url_has_blanks_or_escapes():
    numbers = [name for name, (_, allowed) in WRONG.items() if allowed == NUMBER]
    wrong = [
        *((name, "999999999999999999") for name in numbers),
        *((name, url) for name in ("PUBLIC_URL", "FCM_URL") for url in ("https://a b.com", "https://host/%00")),
    ]
    for name, given in wrong:
        with pytest.raises(ImproperlyConfigured) as refused:
            execute_settings(**{name: given})
        assert str(refused.value).startswith(f"{name} must be"), name
        assert str(refused.value).endswith(f": {given}"), name


def test_blank_secret_key_counts_as_a_missing_one():
    refused = load_settings("", SECRET_KEY="   ", DATABASE_URL="postgres://u:p@127.0.0.1:1/none")

    assert "SECRET_KEY must be set" in refused.stderr


def test_process_ends_with_the_message():
    refused = load_settings("", BEHIND_PROXY="ture")

    assert refused.returncode == 1
    assert "BEHIND_PROXY must be true or false: ture" in refused.stderr


@pytest.mark.parametrize(
    "url",
    [
        *("nonsense", "postgres://", "postgres://host", "postgres://u:secretword@host:port/name", "sqlite:///file"),
        *("mysql://u:secretword@host/name", "postgres://u:secretword@[host/name"),
    ],
)
def test_wrong_url_of_the_database_is_refused_without_its_password(monkeypatch, url):
    monkeypatch.setenv("X_URL", url)
    with pytest.raises(ImproperlyConfigured, match="X_URL must be the URL of a PostgreSQL server") as refused:
        urls.read_database("X_URL", default="")
    assert "secretword" not in str(refused.value)


@pytest.mark.parametrize("url", ["smtp://", "smtp://host:port", "http://host", "anymail://pigeon", ""])
def test_wrong_url_of_email_is_refused(monkeypatch, url):
    monkeypatch.setenv("X_URL", url)
    with pytest.raises(ImproperlyConfigured, match="X_URL"):
        urls.read_email("X_URL", default="")


def test_right_values_are_read(monkeypatch):
    for given, flag in {"true": True, "On": True, "1": True, "no": False, "0": False}.items():
        monkeypatch.setenv("X", given)
        assert variables.read_flag("X", default=not flag) is flag
    monkeypatch.setenv("X", "redis://one/0;redis://two/0")
    assert urls.read_service("X", urls.BROKER_SCHEMES, example="redis://host/0") == "redis://one/0;redis://two/0"
    monkeypatch.setenv("X", "*,.example.com, [::1]")
    assert variables.read_list("X", entry=variables.HOST, means="hosts") == ["*", ".example.com", "[::1]"]
    monkeypatch.setenv("X", "Acme Support <Support@acme.example>")
    assert variables.read_sender("X", default="") == "Acme Support <Support@acme.example>"


@pytest.mark.django_db
def test_short_secret_key_stops_a_new_installation_only(settings, monkeypatch):
    settings.SECRET_KEY = "short"
    call_command("migrate", plan=True, verbosity=0)
    monkeypatch.setattr(MigrationRecorder, "applied_migrations", lambda _self: {})

    with pytest.raises(CommandError, match="SECRET_KEY must have at least 32 characters"):
        call_command("migrate", plan=True, verbosity=0)
