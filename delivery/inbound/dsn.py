"""Reports that mail servers send by email: delivery status notifications (RFC 3464), feedback loop reports (RFC 5965)
and bounces in free text.

Anyone can write such a report, and every recipient of an email knows its reply address and its Message-ID. So a bounce
counts only at the email's bounce address, which mail servers receive and readers never see. A complaint counts there
too, and at FEEDBACK_ADDRESS if it quotes a Message-ID signed by us.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.message import Message

from django.conf import settings

from delivery import reply_addresses
from delivery.channels.bounce_rules import ENHANCED, mailbox_verdict
from delivery.inbound import bounce_texts, status_fields
from delivery.inbound import feedback as bounce_feedback
from delivery.inbound.feedback import Feedback, FeedbackType
from delivery.inbound.message import MESSAGE_IDS, InboundEmail, clean_text, decode_text, extract_addresses
from delivery.reply_addresses import Referent

MAX_DETAIL_LENGTH = 500
MAX_RETURNED_LENGTH = 200_000
MESSAGE_ID_HEADERS = re.compile(r"^(message-id|x-original-message-id):[ \t]*((?:.|\n[ \t])*)", re.I | re.M)
FEEDBACK_REPORT = "message/feedback-report"
# The type before the text of Diagnostic-Code, such as "smtp;".
DIAGNOSTIC_TYPE = re.compile(r"^\s*(?:x-)?[\w-]{1,30}\s*;\s*", re.I)
HAS_WORDS = re.compile(r"[^\W\d_]{3}")
# A letter of an internationalised address (RFC 6533).
ESCAPED_LETTER = re.compile(r"\\x\{([0-9A-Fa-f]{2,4})\}")
REPLY_FAMILY = re.compile(r"^\s*([245])\d\d\b")


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
    proven = referent_of_bounce_address(email, at=at)
    found = read_feedback(email, at=min(email.date or at, at), at_bounce_address=proven is not None)
    if found is None:
        return None
    if proven is None and FEEDBACK_REPORT in kinds and was_delivered_to(settings.FEEDBACK_ADDRESS, email):
        proven = bounce_feedback.find_referent(message_ids=quoted_ids(email, kinds))
    referent = proven or claimed_referent(email, kinds)
    return [Notice(referent=referent, feedback=item, is_proven=proven is not None) for item in found]


def read_feedback(email: InboundEmail, *, at: datetime, at_bounce_address: bool) -> list[Feedback] | None:
    """Return the feedback in a report; None if the email is not a report."""
    parts = list(report_parts(email.mail))
    if bounce_texts.has_server_name(email) and bounce_texts.may_be_notice(email, at_bounce_address=at_bounce_address):
        # Some gateways put the report of a server into an email of their own.
        parts += [inner for part in parts for inner in embedded_reports(part)]
    for part in parts:
        if part.get_content_type() == FEEDBACK_REPORT:
            return list(read_feedback_report(part, at=at))
    status_parts = [part for part in parts if status_fields.is_status_part(part)]
    found = list(dict.fromkeys(item for part in status_parts for item in read_delivery_status(part, email, at=at)))
    if found:
        return found
    if status_parts or bounce_texts.is_text_bounce(email, at_bounce_address=at_bounce_address):
        return list(dict.fromkeys(read_text_bounce(email, at=at)))
    if at_bounce_address and bounce_texts.is_doubtful(email):
        return [Feedback(type=FeedbackType.DOUBTFUL, at=at, detail=email.header("Subject")[:MAX_DETAIL_LENGTH])]
    return None


def read_delivery_status(part: Message, email: InboundEmail, *, at: datetime) -> Iterator[Feedback]:
    """Yield the outcome for each recipient of a delivery status notification."""
    is_delay = bounce_texts.says_delay(email)
    for fields in status_fields.recipient_groups(part):
        diagnostic = " ".join(fields.get("diagnostic-code", "").split())
        diagnostic = DIAGNOSTIC_TYPE.sub("", diagnostic, count=1)
        status = fields.get("status", "")
        type_ = type_of_action(fields.get("action", ""), status=status, words=diagnostic, is_delay=is_delay)
        if type_ is None:
            continue
        recipient = recipient_of(fields)
        if type_ is FeedbackType.BOUNCED:
            if not HAS_WORDS.search(diagnostic):
                diagnostic = f"{diagnostic} {words_beside(email, recipient)}".strip()
            if mailbox_verdict(diagnostic, status=status):
                type_ = FeedbackType.NO_MAILBOX
        code = " ".join(status.split())
        detail = clean_text(diagnostic if code in diagnostic else f"{code} {diagnostic}").strip()
        yield Feedback(type=type_, at=at, address=recipient, detail=detail[:MAX_DETAIL_LENGTH])


def type_of_action(action: str, *, status: str, words: str, is_delay: bool) -> FeedbackType | None:
    """Return what a server did with the email; by its status if it does not say; None if it says nothing."""
    stated = action.strip().lower()
    for name, type_ in ACTIONS.items():
        if stated.startswith(name):
            return type_
    families = [family for family, *_ in ENHANCED.findall(f"{status} {words}")] or REPLY_FAMILY.findall(words)
    if not families:
        return FeedbackType.BOUNCED if stated or words else None
    if families[0] == "4":
        return FeedbackType.ACCEPTED if is_delay else FeedbackType.BOUNCED
    return FeedbackType.BOUNCED if families[0] == "5" else FeedbackType.ACCEPTED


def words_beside(email: InboundEmail, recipient: str) -> str:
    """Return the reason that the text of a report gives, for reports whose fields give none."""
    reasons = {bounce.address: bounce.reason for bounce in bounce_texts.read_text_bounces(email)}
    return reasons.get(recipient) or (next(iter(reasons.values())) if len(reasons) == 1 else "")


def recipient_of(fields: status_fields.Fields) -> str:
    """Return the address that failed: the last one on the way, unless it is only the server's own name of the first."""
    last, first, actual = (recipient_address(fields.get(name, "")) for name in status_fields.RECIPIENT_FIELDS)
    if first and last:
        domain, known = last.rpartition("@")[2], first.rpartition("@")[2]
        is_internal = "." not in domain or f".{domain}".endswith(f".{known}") or f".{known}".endswith(f".{domain}")
        return first if is_internal and last.partition("@")[0] == first.partition("@")[0] else last
    return last or first or actual


def read_feedback_report(part: Message, *, at: datetime) -> Iterator[Feedback]:
    """Yield the complaint or unsubscribe request that a mailbox provider forwards."""
    fields = part.get_payload()
    report = fields[0] if isinstance(fields, list) and fields and isinstance(fields[0], Message) else part
    kind = str(report.get("Feedback-Type", "")).strip().lower()
    if (type_ := FEEDBACK_TYPES.get(kind)) is not None:
        yield Feedback(type=type_, at=at, address=recipient_address(str(report.get("Original-Rcpt-To", ""))))


def read_text_bounce(email: InboundEmail, *, at: datetime) -> Iterator[Feedback]:
    """Yield the bounce of each recipient that a server names in free text."""
    for bounce in bounce_texts.read_text_bounces(email):
        if bounce.is_delay:
            type_ = FeedbackType.ACCEPTED
        elif mailbox_verdict(bounce.reason):
            type_ = FeedbackType.NO_MAILBOX
        else:
            type_ = FeedbackType.BOUNCED if bounce.is_certain else FeedbackType.DOUBTFUL
        detail = clean_text(" ".join(bounce.reason.split()))[:MAX_DETAIL_LENGTH]
        yield Feedback(type=type_, at=at, address=bounce.address, detail=detail)


# "delayed" only proves that the email left: the server keeps trying. "expired" is SendGrid's, "error" OpenSMTPD's.
ACTIONS = {
    "fail": FeedbackType.BOUNCED,
    "error": FeedbackType.BOUNCED,
    "expired": FeedbackType.BOUNCED,
    "undeliver": FeedbackType.BOUNCED,
    "bounce": FeedbackType.BOUNCED,
    "delayed": FeedbackType.ACCEPTED,
    "deliver": FeedbackType.ACCEPTED,
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


def embedded_reports(part: Message) -> Iterator[Message]:
    """Yield the parts of a report that is attached as an email."""
    inner = part.get_payload() if part.get_content_type() == "message/rfc822" else []
    for mail in inner if isinstance(inner, list) else []:
        if isinstance(mail, Message) and mail.get_content_type() == "multipart/report":
            yield from report_parts(mail)


def recipient_address(recipient: str) -> str:
    """Return the address in `rfc822; ada@example.com`."""
    decoded = ESCAPED_LETTER.sub(lambda found: chr(int(found[1], 16)), recipient.rpartition(";")[2])
    return next(iter(extract_addresses([decoded.replace('"', "")])), "")
