"""Reports that mail servers send by email: delivery status notifications (RFC 3464), feedback loop reports (RFC 5965)
and the free-text bounces of older servers.

Anyone can write such a report, and every recipient of an email knows its reply address and its Message-ID. So a bounce
counts only at the email's bounce address, which mail servers receive and readers never see. A complaint counts there
too, and at FEEDBACK_ADDRESS if it quotes a Message-ID signed by us.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from email.message import Message

from django.conf import settings

from delivery import reply_addresses
from delivery.channels.bounce_rules import says_no_such_mailbox
from delivery.inbound import feedback as bounce_feedback
from delivery.inbound.feedback import Feedback, FeedbackType
from delivery.inbound.message import MESSAGE_IDS, InboundEmail, clean_text, decode_text, extract_addresses
from delivery.reply_addresses import Referent

MAX_DETAIL_LENGTH = 500
MAX_DIAGNOSTIC_LENGTH = 5_000
MAX_RETURNED_LENGTH = 200_000
# Our emails have one recipient, whose server may forward them to a few more.
MAX_RECIPIENT_BLOCKS = 50
MESSAGE_ID_HEADERS = re.compile(r"^(message-id|x-original-message-id):[ \t]*((?:.|\n[ \t])*)", re.I | re.M)
# Older servers put the error in the middle of their text.
REFUSAL_LINES = re.compile(r"^.*\b[45]\d\d[ -].*$|^.*\b[45]\.\d\.\d{1,3}\b.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One report and the email it is about; `referent` is None if that email is not ours or cannot be identified.

    `is_proven` is False if the report came to an address that anyone may know.
    """

    referent: Referent | None
    feedback: Feedback
    is_proven: bool


def read_notices(email: InboundEmail, *, at: datetime) -> list[Notice] | None:
    """Return the reports in an email; None if it is not a report, so that it can be handled as a reply."""
    kinds = {part.get_content_type(): part for part in report_parts(email.mail)}
    when = min(email.date or at, at)
    for kind, reader in READERS.items():
        if kind in kinds:
            found = list(reader(kinds[kind], email, when))
            break
    else:
        if not email.headers("X-Failed-Recipients"):
            return None
        kind, found = "", [read_legacy_bounce(email, at=when)]
    proven = referent_of_bounce_address(email, at=at)
    if proven is None and kind == FEEDBACK_REPORT and was_delivered_to(settings.FEEDBACK_ADDRESS, email):
        proven = bounce_feedback.find_referent(message_ids=quoted_ids(email, kinds))
    referent = proven or claimed_referent(email, kinds)
    return [Notice(referent=referent, feedback=item, is_proven=proven is not None) for item in found]


def read_delivery_status(part: Message, _email: InboundEmail, at: datetime) -> Iterator[Feedback]:
    """Yield the outcome for each recipient of a delivery status notification."""
    blocks = part.get_payload()
    for block in blocks[:MAX_RECIPIENT_BLOCKS] if isinstance(blocks, list) else []:
        # The first block is about the whole email and has no Action.
        if not isinstance(block, Message) or not block.get("Action"):
            continue
        diagnostic = " ".join(str(block.get("Diagnostic-Code", "")).partition(";")[2].split())[:MAX_DIAGNOSTIC_LENGTH]
        code = " ".join(str(block.get("Status", "")).split())
        type_ = ACTIONS.get(str(block["Action"]).split("(")[0].strip().lower())
        if type_ is FeedbackType.BOUNCED and says_no_such_mailbox(diagnostic, status=code):
            type_ = FeedbackType.NO_MAILBOX
        if type_ is not None:
            recipient = block.get("Original-Recipient") or block.get("Final-Recipient") or ""
            detail = clean_text(f"{code} {diagnostic}" if code not in diagnostic else diagnostic).strip()[
                :MAX_DETAIL_LENGTH
            ]
            yield Feedback(type=type_, at=at, address=recipient_address(str(recipient)), detail=detail)


def read_feedback_report(part: Message, _email: InboundEmail, at: datetime) -> Iterator[Feedback]:
    """Yield the complaint or unsubscribe request that a mailbox provider forwards."""
    fields = part.get_payload()
    report = fields[0] if isinstance(fields, list) and fields and isinstance(fields[0], Message) else part
    kind = str(report.get("Feedback-Type", "")).strip().lower()
    if (type_ := FEEDBACK_TYPES.get(kind)) is not None:
        yield Feedback(type=type_, at=at, address=recipient_address(str(report.get("Original-Rcpt-To", ""))))


def read_legacy_bounce(email: InboundEmail, *, at: datetime) -> Feedback:
    """Return the bounce that a server reports in free text, with an X-Failed-Recipients header."""
    lines = " ".join(REFUSAL_LINES.findall(email.body("plain")[:MAX_RETURNED_LENGTH])[:3])
    detail = clean_text(" ".join(lines.split()))[:MAX_DETAIL_LENGTH]
    type_ = FeedbackType.NO_MAILBOX if says_no_such_mailbox(detail) else FeedbackType.BOUNCED
    found = extract_addresses(email.headers("X-Failed-Recipients"))
    return Feedback(type=type_, at=at, address=found[0] if len(found) == 1 else "", detail=detail)


FEEDBACK_REPORT = "message/feedback-report"
READERS: dict[str, Callable[[Message, InboundEmail, datetime], Iterator[Feedback]]] = {
    FEEDBACK_REPORT: read_feedback_report,
    "message/delivery-status": read_delivery_status,
}
# "delayed" only proves that the email left: the server keeps trying.
ACTIONS = {
    "failed": FeedbackType.BOUNCED,
    "delayed": FeedbackType.ACCEPTED,
    "delivered": FeedbackType.ACCEPTED,
    "relayed": FeedbackType.ACCEPTED,
    "expanded": FeedbackType.ACCEPTED,
}
FEEDBACK_TYPES = {
    "abuse": FeedbackType.COMPLAINED,
    "fraud": FeedbackType.COMPLAINED,
    "virus": FeedbackType.COMPLAINED,
    "other": FeedbackType.COMPLAINED,
    "opt-out": FeedbackType.UNSUBSCRIBED,
    "opt-out-list": FeedbackType.UNSUBSCRIBED,
}


def referent_of_bounce_address(email: InboundEmail, *, at: datetime) -> Referent | None:
    """Return the email whose bounce address received the report; None if no bounce address did."""
    found = (reply_addresses.referent_of_bounce(address, at=at) for address in email.recipients)
    return next((referent for referent in found if referent is not None), None)


def was_delivered_to(address: str, email: InboundEmail) -> bool:
    """Tell whether an email was sent to this address, by its envelope, or by its headers if the envelope is unknown."""
    known = [email.recipient] if email.recipient else email.recipients
    return bool(address) and address in known


def claimed_referent(email: InboundEmail, kinds: dict[str, Message]) -> Referent | None:
    """Return the email that a report claims to be about, without proof."""
    found = (reply_addresses.referent_of_reply(address) for address in email.recipients)
    referent = next((referent for referent in found if referent is not None), None)
    return referent or bounce_feedback.find_referent(message_ids=(*quoted_ids(email, kinds), *email.answered_ids))


def quoted_ids(email: InboundEmail, kinds: dict[str, Message]) -> tuple[str, ...]:
    """Return the Message-IDs of the email that a report returns or quotes."""
    return tuple(found for value in returned_message_ids(email, kinds) for found in MESSAGE_IDS.findall(value))


def returned_message_ids(email: InboundEmail, kinds: dict[str, Message]) -> list[str]:
    """Return the Message-ID headers of the returned email, whether it was attached or only quoted."""
    texts: list[str] = []
    if "message/rfc822" in kinds:
        inner = kinds["message/rfc822"].get_payload()
        mail = inner[0] if isinstance(inner, list) and inner else None
        if isinstance(mail, Message):
            texts.append("\n".join(f"{name}: {value}" for name, value in mail.raw_items()))
    if "text/rfc822-headers" in kinds:
        texts.append(decode_text(kinds["text/rfc822-headers"]))
    if not texts:
        texts.append(email.body("plain"))
    return [value for text in texts for _, value in MESSAGE_ID_HEADERS.findall(text[:MAX_RETURNED_LENGTH])]


def report_parts(mail: Message) -> Iterator[Message]:
    """Yield the parts of an email, including those of a report but not those of the returned email."""
    yield mail
    if mail.get_content_maintype() == "multipart" and mail.is_multipart():
        for part in mail.get_payload():
            if isinstance(part, Message):
                yield from report_parts(part)


def recipient_address(recipient: str) -> str:
    """Return the address in `rfc822; ada@example.com`."""
    return next(iter(extract_addresses([recipient.rpartition(";")[2]])), "")
