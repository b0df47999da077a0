"""Secrets that are read again, encrypted at rest: who holds a copy of the database alone cannot sign as we do."""

import base64
import hashlib
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

# What was written before secrets were sealed is read as it is, until it is written again.
SEALED_PREFIX = "sealed:"


@lru_cache(maxsize=4)
def fernet_for_keys(*keys: str) -> MultiFernet:
    """Seal with the first of these keys, and open what any of them sealed."""
    hashed = [hashlib.sha256(f"outbound.at_rest:{key}".encode()).digest() for key in keys]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in hashed])


def current_fernet() -> MultiFernet:
    """Return what seals under today's SECRET_KEY and opens under its SECRET_KEY_FALLBACKS too."""
    return fernet_for_keys(settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)


class SealedField(models.CharField):
    """Text that is plain here and encrypted in the database; `max_length` is that of the sealed text."""

    def get_prep_value(self, value: Any) -> Any:
        """Seal it: two seals of one secret differ, so nothing can be looked up by it."""
        return value if value is None else SEALED_PREFIX + current_fernet().encrypt(str(value).encode()).decode()

    def from_db_value(self, value: str | None, _expression: object, _connection: object) -> str | None:
        """Open it; raises ImproperlyConfigured where it was sealed with a key that is not there any more."""
        if value is None or not value.startswith(SEALED_PREFIX):
            return value
        try:
            return current_fernet().decrypt(value.removeprefix(SEALED_PREFIX)).decode()
        except InvalidToken as no:
            raise ImproperlyConfigured(
                f"{self.name} was sealed with another SECRET_KEY: name that one in SECRET_KEY_FALLBACKS."
            ) from no
