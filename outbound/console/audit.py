"""The log of changes, written outside of Django's own pages too: by the buttons of messages and by the API."""

from collections.abc import Sequence

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import User
from django.db.models import Model


def log_addition(by: User, added: Model, words: str) -> None:
    LogEntry.objects.log_actions(by.pk, [added], ADDITION, words, single_object=True)


def log_change(by: User, changed: Model, words: str) -> None:
    LogEntry.objects.log_actions(by.pk, [changed], CHANGE, words, single_object=True)


def log_changes(by: User, changed: Sequence[Model], words: str) -> None:
    """Log the same change of each of these, in one statement."""
    if changed:
        LogEntry.objects.log_actions(by.pk, changed, CHANGE, words)
