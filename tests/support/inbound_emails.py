"""Mails as programs and servers write them (`mails/*.eml`), about a copy of ours."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from delivery import rendering, reply_addresses
from delivery.inbound.message import InboundEmail
from delivery.models import DeliveryRecord
from delivery.reply_addresses import ReferentKind

FOLDER = Path(__file__).resolve().parent / "emails"


def written(name: str, *, reply_to: str, message_id: str = "<unknown@else.example>", **marks: str) -> bytes:
    """One mail's bytes, with what it answers put in; line ends as on the wire."""
    text = (FOLDER / f"{name}.eml").read_text(encoding="utf-8")
    marks = {"reply_to": reply_to, "reply_to_upper": reply_to.upper(), "message_id": message_id, **marks}
    for mark, value in marks.items():
        text = text.replace(f"@{mark.upper()}@", value)
    return text.replace("\n", "\r\n").encode()


def about(record: DeliveryRecord, name: str, **marks: str) -> bytes:
    """One mail's bytes, about this copy."""
    given = {
        "reply_to": reply_addresses.reply_address(record),
        "message_id": rendering.message_id(record.pk),
        "return_path": reply_addresses.return_path(ReferentKind.RECORD, record.pk) or "ada@acme.example",
    }
    return written(name, **{**given, **marks})


def to_bounce_address(record: DeliveryRecord, content: bytes) -> InboundEmail:
    """One mail as it comes to the bounce address of this copy."""
    return letter(content, recipient=reply_addresses.return_path(ReferentKind.RECORD, record.pk))


def letter(content: bytes | EmailMessage, **envelope: str) -> InboundEmail:
    return InboundEmail.parse(content if isinstance(content, bytes) else content.as_bytes(), **envelope)


def changed(content: bytes, **headers: str | None) -> bytes:
    """The same mail with other headers, by their names with _ for -; None takes one away."""
    mail = message_from_bytes(content, policy=policy.SMTP)
    for name, value in headers.items():
        del mail[name.replace("_", "-")]
        if value is not None:
            mail[name.replace("_", "-")] = value
    return mail.as_bytes()
