"""Sample emails of real mail programs and servers (`emails/*.eml`), which answer or report one of our copies."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from delivery import rendering, reply_addresses
from delivery.inbound.message import InboundEmail
from delivery.models import DeliveryRecord
from delivery.reply_addresses import ReferentKind

FOLDER = Path(__file__).resolve().parent / "emails"


def sample_email(name: str, *, reply_to: str, message_id: str = "<unknown@else.example>", **marks: str) -> bytes:
    """Return a sample with the marks replaced and CRLF line ends."""
    text = (FOLDER / f"{name}.eml").read_text(encoding="utf-8")
    marks = {"reply_to": reply_to, "reply_to_upper": reply_to.upper(), "message_id": message_id, **marks}
    for mark, value in marks.items():
        text = text.replace(f"@{mark.upper()}@", value)
    return text.replace("\n", "\r\n").encode()


def reply_sample(record: DeliveryRecord, name: str, **marks: str) -> bytes:
    """Return a sample that answers or reports this copy."""
    given = {
        "reply_to": reply_addresses.reply_address(record),
        "message_id": rendering.message_id(record.pk),
        "return_path": reply_addresses.return_path(ReferentKind.RECORD, record.pk) or "ada@acme.example",
    }
    return sample_email(name, **{**given, **marks})


def to_bounce_address(record: DeliveryRecord, content: bytes) -> InboundEmail:
    """Return an email as received at the bounce address of this copy."""
    return parse_email(content, recipient=reply_addresses.return_path(ReferentKind.RECORD, record.pk))


def parse_email(content: bytes | EmailMessage, **envelope: str) -> InboundEmail:
    return InboundEmail.parse(content if isinstance(content, bytes) else content.as_bytes(), **envelope)


def with_headers(content: bytes, **headers: str | None) -> bytes:
    """Return an email with other headers (names with _ for -); None removes a header."""
    mail = message_from_bytes(content, policy=policy.SMTP)
    for name, value in headers.items():
        del mail[name.replace("_", "-")]
        if value is not None:
            mail[name.replace("_", "-")] = value
    return mail.as_bytes()
