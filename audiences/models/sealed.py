"""Encryption at rest for secrets: a copy of the database is not enough to sign with them."""

import base64
import hashlib
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

# Values without this prefix were stored before encryption existed, and are returned as they are.
SEALED_PREFIX = "sealed:"


@lru_cache(maxsize=4)
def fernet_for_keys(*keys: str) -> MultiFernet:
    """Return a cipher that encrypts with the first key and decrypts with any of them."""
    hashed = [hashlib.sha256(f"outbound.at_rest:{key}".encode()).digest() for key in keys]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in hashed])


def current_fernet() -> MultiFernet:
    """Return the cipher for SECRET_KEY and SECRET_KEY_FALLBACKS."""
    return fernet_for_keys(settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)


def seal(value: str) -> str:
    """Encrypt a value. Two ciphertexts of one value differ."""
    return SEALED_PREFIX + current_fernet().encrypt(value.encode()).decode()


def unseal(stored: str, *, name: str) -> str:
    """Decrypt a value. Raises ImproperlyConfigured with its name if it was encrypted with an unknown key."""
    if not stored.startswith(SEALED_PREFIX):
        return stored
    try:
        return current_fernet().decrypt(stored.removeprefix(SEALED_PREFIX)).decode()
    except InvalidToken as no:
        raise ImproperlyConfigured(
            f"{name} was encrypted with another SECRET_KEY. Add that key to SECRET_KEY_FALLBACKS."
        ) from no


class SealedField(models.CharField):
    """Text that is encrypted in the database. `max_length` applies to the encrypted text."""

    def get_prep_value(self, value: Any) -> Any:
        """Encrypt the value. Lookups by value do not work."""
        return value if value is None else seal(str(value))

    def from_db_value(self, value: str | None, _expression: object, _connection: object) -> str | None:
        return value if value is None else unseal(value, name=str(self.name))
