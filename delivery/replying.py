"""Where replies and bounces go: addresses that name a record or a conversation, signed; and what a Message-ID names.

The token is base32 in lower case, as mail programs do not keep the case of what stands before the @. It tells nothing
to who reads it, outlives a new SECRET_KEY (SECRET_KEY_FALLBACKS), and never expires: people answer old mail.
"""

import binascii
import re
from base64 import b32decode, b32encode, urlsafe_b64decode
from enum import IntEnum
from typing import NamedTuple

from django.conf import settings
from django.core.signing import Signer
from django.utils.crypto import constant_time_compare

from delivery.models import Conversation, DeliveryRecord

SALT = "reply"
PREFIX, BOUNCE = "reply", "bounce"
# So many bytes of a signature: nobody guesses 80 bits by sending mail.
SIGNED = 10
# A kind and a number of at most 8 bytes; 6 + 31 characters fit the 64 that may stand before an @.
LONGEST = SIGNED + 1 + 8
TOKEN = re.compile(rf"[a-z2-7]{{{(SIGNED + 2) * 8 // 5},{-(-LONGEST * 8 // 5)}}}")


# <123.signature@…> of a record, <answer.123.signature@…> and so on of what else is mailed.
MESSAGE_ID = re.compile(r"<?((?:([a-z]+)\.)?(\d{1,19}))\.([0-9A-Za-z-]{16})@[^\s@]+")


class Kind(IntEnum):
    """What an address or a Message-ID may name."""

    RECORD = 1
    CONVERSATION = 2
    ANSWER = 3


KINDS = {None: Kind.RECORD, "conversation": Kind.CONVERSATION, "answer": Kind.ANSWER}


class Named(NamedTuple):
    """What an address names: it was ours once, whether or not the row is still there."""

    kind: Kind
    pk: int


def reply_address(about: DeliveryRecord | Conversation) -> str:
    """The address at which an answer to this mail comes back; "" where there is no inbound domain."""
    return address_of(Kind.RECORD if isinstance(about, DeliveryRecord) else Kind.CONVERSATION, about.pk)


def address_of(kind: Kind, pk: int) -> str:
    """The same, by kind and key."""
    return f"{PREFIX}+{token_of(kind, pk)}@{settings.INBOUND_DOMAIN}" if settings.INBOUND_DOMAIN else ""


def return_path(kind: Kind, pk: int) -> str:
    """The address at which a mail bounces; "" where there is no domain for that."""
    return f"{BOUNCE}+{token_of(kind, pk)}@{settings.BOUNCE_DOMAIN}" if settings.BOUNCE_DOMAIN else ""


def token_of(kind: Kind, pk: int) -> str:
    """Name something so that only we can have named it, and nobody else can read what."""
    named = bytes([kind]) + pk.to_bytes((pk.bit_length() + 7) // 8 or 1, "big")
    signature = signed(named, key=settings.SECRET_KEY)
    return b32encode(signature + covered(named, signature, key=settings.SECRET_KEY)).decode().rstrip("=").lower()


def read(token: str) -> Named | None:
    """What a token names; None for one that is not ours."""
    if not TOKEN.fullmatch(token.lower()):
        return None
    try:
        content = b32decode(token.upper() + "=" * (-len(token) % 8))
    except binascii.Error:
        return None
    signature, hidden = content[:SIGNED], content[SIGNED:]
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        named = covered(hidden, signature, key=key)
        if constant_time_compare(signed(named, key=key), signature) and named[0] in list(Kind):
            return Named(Kind(named[0]), int.from_bytes(named[1:], "big"))
    return None


def token_in(address: str) -> str:
    """The token an address of ours holds, whatever its domain is called by now; "" where it holds none."""
    local = address.rpartition("@")[0]
    prefix, plus, token = local.partition("+")
    return token if plus and prefix.lower().strip('"') in (PREFIX, BOUNCE) else ""


def named_by(message_id: str) -> Named | None:
    """What a mail of ours was about, by its Message-ID; None for one that is not ours."""
    found = MESSAGE_ID.match(message_id.strip())
    if found is None or found[2] not in KINDS:
        return None
    signer = Signer(salt="message-id")
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        signature = signer.signature(found[1], key=key)[:16].replace("_", "-")
        if constant_time_compare(signature, found[4]):
            return Named(KINDS[found[2]], int(found[3]))
    return None


def signed(content: bytes, *, key: str) -> bytes:
    """The signature of some bytes."""
    return hmac_of("name", content, key=key)[:SIGNED]


def covered(content: bytes, signature: bytes, *, key: str) -> bytes:
    """Some bytes made unreadable, or readable again."""
    cover = hmac_of("cover", signature, key=key)
    return bytes(one ^ other for one, other in zip(content, cover, strict=False))


def hmac_of(purpose: str, content: bytes, *, key: str) -> bytes:
    """Django's own signature, as bytes."""
    made = Signer(salt=f"{SALT}-{purpose}").signature(content.hex(), key=key)
    return urlsafe_b64decode(made + "=" * (-len(made) % 4))
