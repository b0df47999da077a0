"""Sealed tokens for links in emails and for the addresses of replies and bounces.

A token reveals nothing, never expires, and stays valid after SECRET_KEY is changed (SECRET_KEY_FALLBACKS). The same
content always gives the same token, and a token made for one purpose is not valid for another.

The sealing is AES-SIV (RFC 5297) with the purpose as associated data. Version 0.2 reads such tokens and writes
the format of 0.1.0, so that one can go back to 0.1.0. Version 0.3 writes them.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from django.conf import settings

# True from 0.3.0 on (a test compares it with the version).
WRITE_AES_SIV = False
# Bytes that AES-SIV, and the format of version 0.1.0, put before the content.
TAG_SIZE = 16
NUMBER_SIZE = struct.calcsize(">Q")


@lru_cache(maxsize=8)
def cipher(secret: str) -> AESSIV:
    """Return the cipher of one secret key; AES-256-SIV takes 64 bytes."""
    return AESSIV(hashlib.sha512(f"outbound.tokens.aes-siv:{secret}".encode()).digest())


def seal(content: bytes, *, purpose: str) -> bytes:
    """Return the content sealed with the current key: 16 bytes longer, the same each time."""
    return cipher(settings.SECRET_KEY).encrypt(content, [purpose.encode()])


def unseal(sealed: bytes, *, purpose: str) -> bytes | None:
    """Return the content, sealed with the current key or an earlier one; None if this was not sealed by us."""
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        try:
            return cipher(secret).decrypt(sealed, [purpose.encode()])
        except (InvalidTag, ValueError):
            continue
    return None


def make_token(*numbers: int, purpose: str) -> str:
    """Return a token for up to four numbers, each the key of a row."""
    content = struct.pack(f">{len(numbers)}Q", *numbers)
    sealed = seal(content, purpose=purpose) if WRITE_AES_SIV else seal_as_before(content, purpose=purpose)
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def read_token(token: str, *, purpose: str, numbers: int) -> tuple[int, ...] | None:
    """Return the numbers of a token made with the current key or an earlier one; None for any other text."""
    try:
        sealed = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
    except (UnicodeEncodeError, binascii.Error):
        return None
    if len(sealed) != TAG_SIZE + numbers * NUMBER_SIZE:
        return None
    content = unseal(sealed, purpose=purpose) or unseal_as_before(sealed, purpose=purpose)
    return struct.unpack(f">{numbers}Q", content) if content is not None else None


# The format of version 0.1.0: a synthetic IV made of HMAC. Links in emails that were sent then stay valid.


@lru_cache(maxsize=32)
def hmac_keys(secret: str, purpose: str) -> tuple[bytes, bytes]:
    """Return the key that authenticates and the key that hides, for one purpose."""
    root = hashlib.sha512(f"outbound.tokens:{purpose}:{secret}".encode()).digest()
    return root[:32], root[32:]


def mask(content: bytes, tag: bytes, key: bytes) -> bytes:
    """Hide the content, or reveal it again."""
    return xor(content, hmac.digest(key, tag, "sha256"))


def xor(content: bytes, pad: bytes) -> bytes:
    """Return the bytes of the content that the pad covers, each XOR its byte of the pad."""
    length = min(len(content), len(pad))
    return (int.from_bytes(content[:length]) ^ int.from_bytes(pad[:length])).to_bytes(length)


def seal_as_before(content: bytes, *, purpose: str) -> bytes:
    authenticating, hiding = hmac_keys(settings.SECRET_KEY, purpose)
    tag = hmac.digest(authenticating, content, "sha256")[:TAG_SIZE]
    return tag + mask(content, tag, hiding)


def unseal_as_before(sealed: bytes, *, purpose: str) -> bytes | None:
    tag, hidden = sealed[:TAG_SIZE], sealed[TAG_SIZE:]
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        authenticating, hiding = hmac_keys(secret, purpose)
        content = mask(hidden, tag, hiding)
        if hmac.compare_digest(hmac.digest(authenticating, content, "sha256")[:TAG_SIZE], tag):
            return content
    return None
