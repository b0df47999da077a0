"""Secrets at rest."""

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


def test_a_copy_of_the_database_holds_no_secret_that_signs():
    workspace = Workspace.current()
    hook = Subscription.objects.create(url="https://acme.example/in", topics=[], created_at=AT, updated_at=AT)

    assert workspace.identity_secret not in stored("audiences_workspace", "identity_secret")
    assert hook.secret not in stored("audiences_subscription", "secret")
    assert Workspace.identity_settings()[0] == workspace.identity_secret
    assert Subscription.objects.get().secret == hook.secret


def test_the_longest_secret_an_engineer_may_choose_has_room():
    secret = "🔑" * 200
    Subscription.objects.create(url="https://a.example", topics=[], secret=secret, created_at=AT, updated_at=AT)

    assert Subscription.objects.get().secret == secret


def test_a_secret_outlives_a_change_of_the_key_that_is_named_as_an_old_one(settings):
    secret = Workspace.current().identity_secret
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the next key", [settings.SECRET_KEY]

    assert Workspace.current().identity_secret == secret


def test_a_key_that_is_gone_is_said_and_no_empty_secret_read(settings):
    assert Workspace.current().identity_secret
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another key", []

    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY_FALLBACKS"):
        Workspace.current()


def test_what_was_written_before_secrets_were_sealed_is_read_as_it_is():
    Workspace.current()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audiences_workspace SET identity_secret = 'plain'")

    assert Workspace.identity_settings()[0] == "plain"
