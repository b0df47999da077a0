"""What servers write by mail of mails they were given: delivery status notifications (RFC 3464), reports of a feedback
loop (RFC 5965), and the bounces of servers older than both.

Anybody can write such a report, and everybody who was given an email knows its reply address and its Message-ID. So a
bounce counts at the bounce address of its email only, which mail servers are told and no reader is shown. A complaint
counts there too, and at FEEDBACK_ADDRESS if it quotes a Message-ID that we signed.
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
from delivery.inbound.message import MESSAGE_IDS, InboundEmail, addresses, clean, decoded
from delivery.reply_addresses import Referent

LONGEST_WORDS = 500
LONGEST_SAID = 5_000
LONGEST_RETURNED = 200_000
# A mail of ours has one recipient, who may have it passed on to a few.
MOST_TOLD = 50
HEADS = re.compile(r"^(message-id|x-original-message-id):[ \t]*((?:.|\n[ \t])*)", re.I | re.M)
# What older servers say is in the middle of what they say.
REFUSALS = re.compile(r"^.*\b[45]\d\d[ -].*$|^.*\b[45]\.\d\.\d{1,3}\b.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """News by mail, and the mail of ours they are of; None where it is somebody else's, or cannot be told.

    `counts` is False if they came to an address where anybody may write.
    """

    named: Referent | None
    news: Feedback
    counts: bool


def read_notices(letter: InboundEmail, *, at: datetime) -> list[Notice] | None:
    """What a mail tells of mails of ours; None where it is no notice at all, so that it may be anything else."""
    kinds = {part.get_content_type(): part for part in pieces(letter.mail)}
    when = min(letter.date or at, at)
    for kind, reader in READERS.items():
        if kind in kinds:
            told = list(reader(kinds[kind], letter, when))
            break
    else:
        if not letter.headers("X-Failed-Recipients"):
            return None
        kind, told = "", [older(letter, at=when)]
    proven = at_bounce_address(letter, at=at)
    if proven is None and kind == FEEDBACK_REPORT and came_to(settings.FEEDBACK_ADDRESS, letter):
        proven = bounce_feedback.find(message_ids=quoted_ids(letter, kinds))
    named = proven or claimed(letter, kinds)
    return [Notice(named=named, news=news, counts=proven is not None) for news in told]


def status(part: Message, _letter: InboundEmail, at: datetime) -> Iterator[Feedback]:
    """What a delivery status notification says of each recipient; ours have one."""
    blocks = part.get_payload()
    for block in blocks[:MOST_TOLD] if isinstance(blocks, list) else []:
        # The first block is about the mail as a whole.
        if not isinstance(block, Message) or not block.get("Action"):
            continue
        said = " ".join(str(block.get("Diagnostic-Code", "")).partition(";")[2].split())[:LONGEST_SAID]
        code = " ".join(str(block.get("Status", "")).split())
        what = ACTIONS.get(str(block["Action"]).split("(")[0].strip().lower())
        if what is FeedbackType.BOUNCED and says_no_such_mailbox(said, status=code):
            what = FeedbackType.NO_MAILBOX
        if what is not None:
            recipient = block.get("Original-Recipient") or block.get("Final-Recipient") or ""
            words = clean(f"{code} {said}" if code not in said else said).strip()[:LONGEST_WORDS]
            yield Feedback(what=what, at=at, address=address_in(str(recipient)), words=words)


def feedback(part: Message, _letter: InboundEmail, at: datetime) -> Iterator[Feedback]:
    """What a mailbox's provider says that its user said of a mail."""
    fields = part.get_payload()
    told = fields[0] if isinstance(fields, list) and fields and isinstance(fields[0], Message) else part
    kind = str(told.get("Feedback-Type", "")).strip().lower()
    if (what := FEEDBACK.get(kind)) is not None:
        yield Feedback(what=what, at=at, address=address_in(str(told.get("Original-Rcpt-To", ""))))


def older(letter: InboundEmail, *, at: datetime) -> Feedback:
    """What a server says in words alone."""
    said = " ".join(REFUSALS.findall(letter.body("plain")[:LONGEST_RETURNED])[:3])
    words = clean(" ".join(said.split()))[:LONGEST_WORDS]
    what = FeedbackType.NO_MAILBOX if says_no_such_mailbox(words) else FeedbackType.BOUNCED
    found = addresses(letter.headers("X-Failed-Recipients"))
    return Feedback(what=what, at=at, address=found[0] if len(found) == 1 else "", words=words)


FEEDBACK_REPORT = "message/feedback-report"
READERS: dict[str, Callable[[Message, InboundEmail, datetime], Iterator[Feedback]]] = {
    FEEDBACK_REPORT: feedback,
    "message/delivery-status": status,
}
# What a server did with it. Delayed is no news but that the mail left: it goes on trying.
ACTIONS = {
    "failed": FeedbackType.BOUNCED,
    "delayed": FeedbackType.TAKEN,
    "delivered": FeedbackType.TAKEN,
    "relayed": FeedbackType.TAKEN,
    "expanded": FeedbackType.TAKEN,
}
FEEDBACK = {
    "abuse": FeedbackType.COMPLAINED,
    "fraud": FeedbackType.COMPLAINED,
    "virus": FeedbackType.COMPLAINED,
    "other": FeedbackType.COMPLAINED,
    "opt-out": FeedbackType.UNSUBSCRIBED,
    "opt-out-list": FeedbackType.UNSUBSCRIBED,
}


def at_bounce_address(letter: InboundEmail, *, at: datetime) -> Referent | None:
    """Return the mail of ours whose bounce address a report came to; None if it came to none."""
    found = (reply_addresses.referent_of_bounce(address, at=at) for address in letter.recipients)
    return next((named for named in found if named is not None), None)


def came_to(address: str, letter: InboundEmail) -> bool:
    """Whether a mail came to this address: by its envelope, and by its headers only if the envelope is not known."""
    known = [letter.recipient] if letter.recipient else letter.recipients
    return bool(address) and address in known


def claimed(letter: InboundEmail, kinds: dict[str, Message]) -> Referent | None:
    """Return the mail of ours that a report says it is about, without proof."""
    found = (reply_addresses.referent_of_reply(address) for address in letter.recipients)
    named = next((named for named in found if named is not None), None)
    return named or bounce_feedback.find(message_ids=(*quoted_ids(letter, kinds), *letter.answers))


def quoted_ids(letter: InboundEmail, kinds: dict[str, Message]) -> tuple[str, ...]:
    """Return the Message-IDs of the mail that a report returns or quotes."""
    return tuple(found for value in returned(letter, kinds) for found in MESSAGE_IDS.findall(value))


def returned(letter: InboundEmail, kinds: dict[str, Message]) -> list[str]:
    """The headers by which the mail that is returned may be known, as it or its headers were enclosed or quoted."""
    texts: list[str] = []
    if "message/rfc822" in kinds:
        inner = kinds["message/rfc822"].get_payload()
        mail = inner[0] if isinstance(inner, list) and inner else None
        if isinstance(mail, Message):
            texts.append("\n".join(f"{name}: {value}" for name, value in mail.raw_items()))
    if "text/rfc822-headers" in kinds:
        texts.append(decoded(kinds["text/rfc822-headers"]))
    if not texts:
        texts.append(letter.body("plain"))
    return [value for text in texts for _, value in HEADS.findall(text[:LONGEST_RETURNED])]


def pieces(mail: Message) -> Iterator[Message]:
    """Go through the parts of a mail, those within a report included, but not into a mail that is returned."""
    yield mail
    if mail.get_content_maintype() == "multipart" and mail.is_multipart():
        for part in mail.get_payload():
            if isinstance(part, Message):
                yield from pieces(part)


def address_in(recipient: str) -> str:
    """The address of `rfc822; ada@example.com`."""
    return next(iter(addresses([recipient.rpartition(";")[2]])), "")
