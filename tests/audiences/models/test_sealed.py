"""Encryption of secrets at rest."""

from datetime import UTC, datetime

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from audiences.models import Subscription, Workspace

AT = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def stored(table: str, column: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {table}")  # noqa: S608
        return cursor.fetchone()[0]


def test_the_database_contains_no_plain_secret():
    workspace = Workspace.current()
    hook = Subscription.objects.create(url="https://acme.example/in", topics=[], created_at=AT, updated_at=AT)

    assert workspace.identity_secret not in stored("audiences_workspace", "identity_secret")
    assert hook.secret not in stored("audiences_subscription", "secret")
    assert Workspace.identity_settings()[0] == workspace.identity_secret
    assert Subscription.objects.get().secret == hook.secret


def test_the_longest_allowed_secret_fits():
    secret = "🔑" * 200
    Subscription.objects.create(url="https://a.example", topics=[], secret=secret, created_at=AT, updated_at=AT)

    assert Subscription.objects.get().secret == secret


def test_a_secret_is_readable_after_key_rotation_with_fallback(settings):
    secret = Workspace.current().identity_secret
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the next key", [settings.SECRET_KEY]

    assert Workspace.current().identity_secret == secret


def test_an_unknown_key_raises_instead_of_returning_an_empty_secret(settings):
    assert Workspace.current().identity_secret
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another key", []

    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY_FALLBACKS"):
        Workspace.current()


def test_values_stored_before_encryption_are_readable():
    Workspace.current()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audiences_workspace SET identity_secret = 'plain'")

    assert Workspace.identity_settings()[0] == "plain"
