"""Teammates and clients for tests of the console."""

import pytest
from django.contrib.auth.models import Permission, User

from delivery import tasks


@pytest.fixture
def boss(db) -> User:
    """A teammate with all permissions."""
    return User.objects.create_superuser("boss", "boss@acme.example", "pass")


@pytest.fixture
def console(client, boss):
    """A client with the boss logged in."""
    client.force_login(boss)
    return client


@pytest.fixture
def log_in_with(client, db):
    """Log in as a teammate with only these permissions."""

    def log_in(*permissions: str):
        user = User.objects.create_user("teammate", password="pass", is_staff=True)
        for permission in permissions:
            app, codename = permission.split(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def nudged(monkeypatch) -> list[object]:
    """Record calls to workers instead of sending them to the broker."""
    asked: list[object] = []
    monkeypatch.setattr(tasks, "enqueue_match", lambda message: asked.append(("match", message.pk)))
    monkeypatch.setattr(tasks, "enqueue_dispatch", lambda: asked.append("hand over"))
    return asked
