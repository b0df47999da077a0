"""Tokens in links of messages: opaque, without expiry, and valid after a change of SECRET_KEY.

A token is a seal and a number masked with it (a synthetic IV as in RFC 5297, built on HMAC): equal numbers give equal
tokens, only the key can read or make one, and a token serves one purpose only.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from functools import lru_cache

from django.conf import settings

SEAL_LENGTH = 16
NUMBER_LENGTH = struct.calcsize(">Q")


@lru_cache(maxsize=32)
def token_keys(secret: str, purpose: str) -> tuple[bytes, bytes]:
    """Return the sealing key and the masking key of a purpose."""
    root = hashlib.sha512(f"outbound.tokens:{purpose}:{secret}".encode()).digest()
    return root[:32], root[32:]


def mask_body(body: bytes, seal: bytes, key: bytes) -> bytes:
    """Mask the body; applied again, unmask it."""
    mask = hmac.digest(key, seal, "sha256")
    return bytes(one ^ other for one, other in zip(body, mask, strict=False))


def make_token(*numbers: int, purpose: str) -> str:
    """Return a token for up to four numbers, each the key of a row."""
    body = struct.pack(f">{len(numbers)}Q", *numbers)
    sealing, hiding = token_keys(settings.SECRET_KEY, purpose)
    seal = hmac.digest(sealing, body, "sha256")[:SEAL_LENGTH]
    return base64.urlsafe_b64encode(seal + mask_body(body, seal, hiding)).rstrip(b"=").decode()


def read_token(token: str, *, purpose: str, numbers: int) -> tuple[int, ...] | None:
    """Return the numbers of a token made with today's key or an earlier one; None for any other text."""
    try:
        given = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
    except (UnicodeEncodeError, binascii.Error):
        return None
    if len(given) != SEAL_LENGTH + numbers * NUMBER_LENGTH:
        return None
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        sealing, hiding = token_keys(secret, purpose)
        body = mask_body(given[SEAL_LENGTH:], given[:SEAL_LENGTH], hiding)
        if hmac.compare_digest(hmac.digest(sealing, body, "sha256")[:SEAL_LENGTH], given[:SEAL_LENGTH]):
            return struct.unpack(f">{numbers}Q", body)
    return None
