"""Reply and bounce addresses (VERP): signed tokens that name a record or a conversation; and our Message-IDs.

The token is lower-case base32, because mail programs do not preserve the case before the @. It is opaque, stays valid
after SECRET_KEY changes (SECRET_KEY_FALLBACKS), and never expires: people answer old emails.
"""

import binascii
import re
import struct
from base64 import b32decode, b32encode, urlsafe_b64decode
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import NamedTuple

from django.conf import settings
from django.core.signing import Signer
from django.db.models import Q
from django.utils.crypto import constant_time_compare

from audiences.models import ConfirmationMail
from delivery import tokens
from delivery.models import AnswerMail, Conversation, DeliveryRecord, Upgrade

# How long after the upgrade bounces arrive at addresses that hold the token of a reply address.
OLD_TOKEN_GRACE_PERIOD = timedelta(days=14)
# The signature of the old token format, in bytes: 80 bits cannot be guessed by sending email.
SIGNATURE_LENGTH = 10
# The kind of a row and its key. Sealed they have 25 bytes, as base32 40 characters; with `bounce+` 47 of the 64 allowed
# before an @.
CONTENT = struct.Struct(">BQ")
SEALED_LENGTH = (tokens.TAG_SIZE + CONTENT.size) * 8 // 5
TOKEN = re.compile(rf"[a-z2-7]{{{(SIGNATURE_LENGTH + 2) * 8 // 5},{SEALED_LENGTH}}}")


# <123.signature@…> for a record, <answer.123.signature@…> and so on for other emails.
MESSAGE_ID = re.compile(r"<?((?:([a-z]+)\.)?(\d{1,19}))\.([0-9A-Za-z-]{16})@[^\s@]+")


class Purpose(StrEnum):
    """The purpose of an address: its prefix, and part of the signature of its token.

    So a reply address, which its customer may pass on, cannot be rewritten into a bounce address.
    """

    REPLY = "reply"
    BOUNCE = "bounce"
    UNSUBSCRIBE = "unsubscribe"


class ReferentKind(IntEnum):
    """The kinds of things that an address or a Message-ID may name."""

    RECORD = 1
    CONVERSATION = 2
    ANSWER = 3
    CONFIRMATION = 4


KIND_BY_NAME = {
    None: ReferentKind.RECORD,
    "conversation": ReferentKind.CONVERSATION,
    "answer": ReferentKind.ANSWER,
    "confirmation": ReferentKind.CONFIRMATION,
}


class Referent(NamedTuple):
    """The thing that an address names. It existed once; its row may be gone."""

    kind: ReferentKind
    pk: int


def reply_address(about: DeliveryRecord | Conversation) -> str:
    """Return the address for replies to an email; "" if there is no inbound domain."""
    return reply_address_of(
        ReferentKind.RECORD if isinstance(about, DeliveryRecord) else ReferentKind.CONVERSATION, about.pk
    )


def reply_address_of(kind: ReferentKind, pk: int) -> str:
    """Return the address for replies, by kind and key."""
    return address_for(Purpose.REPLY, kind, pk, domain=settings.INBOUND_DOMAIN)


def return_path(kind: ReferentKind, pk: int) -> str:
    """Return the bounce address of an email; "" if there is no bounce domain."""
    return address_for(Purpose.BOUNCE, kind, pk, domain=settings.BOUNCE_DOMAIN)


def unsubscribe_address(record_id: int) -> str:
    """Return the address whose emails unsubscribe the recipient of a copy; "" if there is no inbound domain."""
    return address_for(Purpose.UNSUBSCRIBE, ReferentKind.RECORD, record_id, domain=settings.INBOUND_DOMAIN)


def record_to_unsubscribe(addresses: Iterable[str]) -> int | None:
    """Return the key of the record that the first valid unsubscribe address names; None if there is none."""
    for address in addresses:
        found = parse_token(token_in(address, purpose=Purpose.UNSUBSCRIBE), purpose=Purpose.UNSUBSCRIBE)
        if found is not None and found.kind is ReferentKind.RECORD:
            return found.pk
    return None


def address_for(purpose: Purpose, kind: ReferentKind, pk: int, *, domain: str) -> str:
    """Return an address with a token of its purpose; "" if there is no domain."""
    return f"{purpose}+{token_of(kind, pk, purpose=purpose)}@{domain}" if domain else ""


def token_of(kind: ReferentKind, pk: int, *, purpose: Purpose) -> str:
    """Return a token that names a row: opaque, and only made with our key."""
    if tokens.WRITE_AES_SIV:
        return b32encode(tokens.seal(CONTENT.pack(kind, pk), purpose=purpose)).decode().lower()
    named = bytes([kind]) + pk.to_bytes((pk.bit_length() + 7) // 8 or 1, "big")
    signature = sign_content(named, purpose=purpose, key=settings.SECRET_KEY)
    hidden = mask_content(named, signature, purpose=purpose, key=settings.SECRET_KEY)
    return b32encode(signature + hidden).decode().rstrip("=").lower()


def parse_token(token: str, *, purpose: Purpose) -> Referent | None:
    """Return what a token names; None if it is not ours or has another purpose."""
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
    signature, hidden = content[:SIGNATURE_LENGTH], content[SIGNATURE_LENGTH:]
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        named = mask_content(hidden, signature, purpose=purpose, key=key)
        if constant_time_compare(sign_content(named, purpose=purpose, key=key), signature) and named[0] in list(
            ReferentKind
        ):
            return Referent(ReferentKind(named[0]), int.from_bytes(named[1:], "big"))
    return None


def token_in(address: str, *, purpose: Purpose) -> str:
    """Return the token of an address for this purpose, whatever its domain; "" if it has none."""
    prefix, plus, token = address.rpartition("@")[0].partition("+")
    return token if plus and prefix.lower().strip('"') == purpose else ""


def has_token(address: str) -> bool:
    """Return whether an address looks like one of ours; its token may be forged."""
    return any(token_in(address, purpose=purpose) for purpose in Purpose)


def referent_of_reply(address: str) -> Referent | None:
    """Return what a reply to this address answers; None if it has no valid token.

    Some programs write to the bounce address, and that of an email sent before the upgrade has a reply token.
    """
    at_bounce = token_in(address, purpose=Purpose.BOUNCE)
    named = parse_token(at_bounce, purpose=Purpose.BOUNCE)
    return named or parse_token(at_bounce or token_in(address, purpose=Purpose.REPLY), purpose=Purpose.REPLY)


def referent_of_bounce(address: str, *, at: datetime) -> Referent | None:
    """Return what an email to this address is a bounce of; None if it is not one of our bounce addresses."""
    token = token_in(address, purpose=Purpose.BOUNCE)
    if (named := parse_token(token, purpose=Purpose.BOUNCE)) is not None:
        return named
    old = parse_token(token, purpose=Purpose.REPLY)
    return old if old is not None and settings.BOUNCE_DOMAIN and old_token_counts(old, at=at) else None


def old_token_counts(named: Referent, *, at: datetime) -> bool:
    """Return whether an email was sent before bounce addresses had tokens of their own, and may still bounce."""
    upgraded_at = Upgrade.moment_of(Upgrade.BOUNCE_TOKENS)
    if upgraded_at is None or at >= upgraded_at + OLD_TOKEN_GRACE_PERIOD:
        return False
    # An uncertain record has no sent_at: if it left, it left when it was claimed.
    sent_before = Q(sent_at__lt=upgraded_at) | Q(sent_at=None, taken_at__lt=upgraded_at)
    if named.kind is ReferentKind.RECORD:
        return DeliveryRecord.objects.filter(sent_before, pk=named.pk).exists()
    return named.kind is ReferentKind.ANSWER and AnswerMail.objects.filter(sent_before, part=named.pk).exists()


def referent_of_message_id(message_id: str) -> Referent | None:
    """Return what our email with this Message-ID was about; None if it is not ours."""
    found = MESSAGE_ID.match(message_id.strip())
    if found is None or found[2] not in KIND_BY_NAME:
        return None
    signer = Signer(salt="message-id")
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        signature = signer.signature(found[1], key=key)[:16].replace("_", "-")
        if constant_time_compare(signature, found[4]):
            return Referent(KIND_BY_NAME[found[2]], int(found[3]))
    return None


def signed_message_id(kind: str, pk: int, *, host: str = "") -> str:
    """Return the Message-ID of an email that is not a copy of a message. `host` comes before its domain."""
    signature = Signer(salt="message-id").signature(f"{kind}.{pk}")[:16]
    return f"<{kind}.{pk}.{signature.replace('_', '-')}@{host}{settings.MESSAGE_ID_DOMAIN}>"


def confirmation_message_id(mail: ConfirmationMail) -> str:
    """Return the Message-ID of a confirmation email: the same at every attempt, another for each request."""
    return signed_message_id("confirmation", mail.pk, host=f"{mail.requested_at.timestamp():.0f}.")


def sign_content(content: bytes, *, purpose: Purpose, key: str) -> bytes:
    return hmac_of(f"{purpose}-name", content, key=key)[:SIGNATURE_LENGTH]


def mask_content(content: bytes, signature: bytes, *, purpose: Purpose, key: str) -> bytes:
    """Mask bytes; applied again, unmask them."""
    return tokens.xor(content, hmac_of(f"{purpose}-cover", signature, key=key))


def hmac_of(salt: str, content: bytes, *, key: str) -> bytes:
    """Return Django's own signature, as bytes."""
    made = Signer(salt=salt).signature(content.hex(), key=key)
    return urlsafe_b64decode(made + "=" * (-len(made) % 4))
