"""Where replies and bounces go: addresses that name a record or a conversation, signed; and what a Message-ID names.

The token is base32 in lower case, as mail programs do not keep the case of what stands before the @. It tells nothing
to who reads it, outlives a new SECRET_KEY (SECRET_KEY_FALLBACKS), and never expires: people answer old mail.
"""

import binascii
import re
import struct
from base64 import b32decode, b32encode, urlsafe_b64decode
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import NamedTuple

from django.conf import settings
from django.core.signing import Signer
from django.db.models import Q
from django.utils.crypto import constant_time_compare

from delivery import tokens
from delivery.models import AnswerMail, Conversation, DeliveryRecord, Upgrade

# For so long after the upgrade bounces come in for emails whose bounce address held the token of a reply address.
OLD_TOKENS_BOUNCE_FOR = timedelta(days=14)
# The signature of the old token format: 80 bits cannot be guessed by sending email.
SIGNATURE_SIZE = 10
# The kind of a row and its key. Sealed they have 25 bytes, as base32 40 characters; with `bounce+` 47 of the 64 allowed
# before an @.
CONTENT = struct.Struct(">BQ")
SEALED_LENGTH = (tokens.TAG_SIZE + CONTENT.size) * 8 // 5
TOKEN = re.compile(rf"[a-z2-7]{{{(SIGNATURE_SIZE + 2) * 8 // 5},{SEALED_LENGTH}}}")


# <123.signature@…> of a record, <answer.123.signature@…> and so on of what else is mailed.
MESSAGE_ID = re.compile(r"<?((?:([a-z]+)\.)?(\d{1,19}))\.([0-9A-Za-z-]{16})@[^\s@]+")


class Purpose(StrEnum):
    """What an address of ours is for: its prefix, and part of what its token is signed with.

    So a reply address, which its customer may pass on, cannot be rewritten into a bounce address.
    """

    REPLY = "reply"
    BOUNCE = "bounce"


class ReferentKind(IntEnum):
    """What an address or a Message-ID may name."""

    RECORD = 1
    CONVERSATION = 2
    ANSWER = 3


KINDS = {None: ReferentKind.RECORD, "conversation": ReferentKind.CONVERSATION, "answer": ReferentKind.ANSWER}


class Referent(NamedTuple):
    """What an address names: it was ours once, whether or not the row is still there."""

    kind: ReferentKind
    pk: int


def reply_address(about: DeliveryRecord | Conversation) -> str:
    """The address at which an answer to this mail comes back; "" where there is no inbound domain."""
    return address_of(ReferentKind.RECORD if isinstance(about, DeliveryRecord) else ReferentKind.CONVERSATION, about.pk)


def address_of(kind: ReferentKind, pk: int) -> str:
    """The same, by kind and key."""
    return address_for(Purpose.REPLY, kind, pk, domain=settings.INBOUND_DOMAIN)


def return_path(kind: ReferentKind, pk: int) -> str:
    """The address at which a mail bounces; "" where there is no domain for that."""
    return address_for(Purpose.BOUNCE, kind, pk, domain=settings.BOUNCE_DOMAIN)


def address_for(purpose: Purpose, kind: ReferentKind, pk: int, *, domain: str) -> str:
    """Return an address with a token of its purpose; "" if there is no domain."""
    return f"{purpose}+{token_of(kind, pk, purpose=purpose)}@{domain}" if domain else ""


def token_of(kind: ReferentKind, pk: int, *, purpose: Purpose) -> str:
    """Name something so that only we can have named it, and nobody else can read what."""
    if tokens.WRITE_AES_SIV:
        return b32encode(tokens.seal(CONTENT.pack(kind, pk), purpose=purpose)).decode().lower()
    named = bytes([kind]) + pk.to_bytes((pk.bit_length() + 7) // 8 or 1, "big")
    signature = signed(named, purpose=purpose, key=settings.SECRET_KEY)
    hidden = covered(named, signature, purpose=purpose, key=settings.SECRET_KEY)
    return b32encode(signature + hidden).decode().rstrip("=").lower()


def parse_token(token: str, *, purpose: Purpose) -> Referent | None:
    """What a token names; None for one that is not ours, or was made for another purpose."""
    if not TOKEN.fullmatch(token.lower()):
        return None
    try:
        content = b32decode(token.upper() + "=" * (-len(token) % 8))
    except binascii.Error:
        return None
    if len(token) == SEALED_LENGTH:
        sealed = tokens.unseal(content, purpose=purpose)
        kind, pk = CONTENT.unpack(sealed) if sealed else (0, 0)
        return Referent(ReferentKind(kind), pk) if kind in list(ReferentKind) else None
    signature, hidden = content[:SIGNATURE_SIZE], content[SIGNATURE_SIZE:]
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        named = covered(hidden, signature, purpose=purpose, key=key)
        if constant_time_compare(signed(named, purpose=purpose, key=key), signature) and named[0] in list(ReferentKind):
            return Referent(ReferentKind(named[0]), int.from_bytes(named[1:], "big"))
    return None


def token_in(address: str, *, purpose: Purpose) -> str:
    """Return the token of an address for this purpose, whatever its domain is called by now; "" if it has none."""
    prefix, plus, token = address.rpartition("@")[0].partition("+")
    return token if plus and prefix.lower().strip('"') == purpose else ""


def holds_a_token(address: str) -> bool:
    """Whether an address looks like one of ours; its token may be forged."""
    return any(token_in(address, purpose=purpose) for purpose in Purpose)


def answered_at(address: str) -> Referent | None:
    """Return what a reply to this address answers; None if it has no valid token.

    Some programs write to the bounce address, and that of an email sent before the upgrade has a reply token.
    """
    at_bounce = token_in(address, purpose=Purpose.BOUNCE)
    named = parse_token(at_bounce, purpose=Purpose.BOUNCE)
    return named or parse_token(at_bounce or token_in(address, purpose=Purpose.REPLY), purpose=Purpose.REPLY)


def bounced_at(address: str, *, at: datetime) -> Referent | None:
    """Return what bounces at this address; None if it is no bounce address of ours."""
    token = token_in(address, purpose=Purpose.BOUNCE)
    if (named := parse_token(token, purpose=Purpose.BOUNCE)) is not None:
        return named
    old = parse_token(token, purpose=Purpose.REPLY)
    return old if old is not None and settings.BOUNCE_DOMAIN and old_token_counts(old, at=at) else None


def old_token_counts(named: Referent, *, at: datetime) -> bool:
    """Whether an email was sent before bounce addresses had tokens of their own, and may still bounce."""
    upgraded_at = Upgrade.moment_of(Upgrade.BOUNCE_TOKENS)
    if upgraded_at is None or at >= upgraded_at + OLD_TOKENS_BOUNCE_FOR:
        return False
    # An uncertain one has no sent_at: it left, if it did, when it was taken in hand.
    sent_before = Q(sent_at__lt=upgraded_at) | Q(sent_at=None, taken_at__lt=upgraded_at)
    if named.kind is ReferentKind.RECORD:
        return DeliveryRecord.objects.filter(sent_before, pk=named.pk).exists()
    return named.kind is ReferentKind.ANSWER and AnswerMail.objects.filter(sent_before, part=named.pk).exists()


def named_by(message_id: str) -> Referent | None:
    """What a mail of ours was about, by its Message-ID; None for one that is not ours."""
    found = MESSAGE_ID.match(message_id.strip())
    if found is None or found[2] not in KINDS:
        return None
    signer = Signer(salt="message-id")
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        signature = signer.signature(found[1], key=key)[:16].replace("_", "-")
        if constant_time_compare(signature, found[4]):
            return Referent(KINDS[found[2]], int(found[3]))
    return None


def signed(content: bytes, *, purpose: Purpose, key: str) -> bytes:
    """The signature of some bytes."""
    return hmac_of(f"{purpose}-name", content, key=key)[:SIGNATURE_SIZE]


def covered(content: bytes, signature: bytes, *, purpose: Purpose, key: str) -> bytes:
    """Some bytes made unreadable, or readable again."""
    cover = hmac_of(f"{purpose}-cover", signature, key=key)
    return bytes(one ^ other for one, other in zip(content, cover, strict=False))


def hmac_of(salt: str, content: bytes, *, key: str) -> bytes:
    """Django's own signature, as bytes."""
    made = Signer(salt=salt).signature(content.hex(), key=key)
    return urlsafe_b64decode(made + "=" * (-len(made) % 4))
