"""Inbound emails: sender, recipients, reply text and attachments. All of it is untrusted.

Strangers write these emails, with programs that break every rule. So everything is read from the raw headers and parts,
and malformed values are left out instead of raising errors.
"""

import hashlib
import mimetypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from functools import cached_property

from audiences.intake.attributes.fields import replace_unstorable
from audiences.intake.identity_resolution import lower_case
from delivery.inbound import auto_replies, charsets, reply_parser
from delivery.inbound.charsets import MAX_HEADER_LENGTH
from delivery.inbound.reply_parser import Reply

# In the order of their authors: the last server before us, the mailbox, the writer.
RECIPIENT_HEADERS = (
    "Delivered-To",
    "X-Original-To",
    "Envelope-To",
    "X-Envelope-To",
    "X-Forwarded-To",
    "To",
    "Cc",
    "Bcc",
)
QUOTED_NAME = re.compile(r'"[^"]*"')
# Each has one place to begin and one to split, so that none takes quadratic time on hostile input.
ANGLE_BRACKETS = re.compile(r"<([^<>\s@]+@[^<>\s@]+)>")
BARE_ADDRESS = re.compile(r"(?<![^\s<>,;:()\[\]@])[^\s<>,;:()\[\]@]+@[^\s<>,;:()\[\]@]+")
MESSAGE_IDS = re.compile(r"<[^<>\s@]+@[^<>\s]+>")
MAX_HTML_LENGTH = 2_000_000
MAX_TEXT_LENGTH = 1_000_000
MAX_MESSAGE_ID_LENGTH = 500
MAX_ADDRESSES = 100
MAX_PARTS = 200
# Texts and alternatives of texts; any other text type, such as a meeting invitation, is a file.
BODY_TYPES = {f"text/{subtype}" for subtype in ("plain", "html", "enriched", "richtext", "x-amp-html", "watch-html")}
# An image embedded in the HTML itself.
INLINE_IMAGE = re.compile(rb"data:[\w.+/-]{1,100};base64,[A-Za-z0-9+/=%\s]*")
EMPTY_PATH = re.compile(r"<?\s*(?:MAILER-DAEMON)?\s*>?", re.IGNORECASE)
CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class NotAnEmail(ValueError):
    """The bytes are not an email; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An attached file; `content_id` is set if the HTML may show it."""

    name: str
    content_type: str
    content: bytes
    content_id: str


@dataclass(frozen=True)
class InboundEmail:
    """An inbound email; `recipient` and `envelope_sender` come from the envelope, "" and None if it is unknown."""

    mail: Message
    recipient: str = ""
    envelope_sender: str | None = None

    @classmethod
    def parse(cls, content: bytes, *, recipient: str = "", envelope_sender: str | None = None) -> "InboundEmail":
        """Parse an email from its bytes; raise NotAnEmail for anything else."""
        if not content.strip():
            raise NotAnEmail("Not an email: the input is empty.")
        try:
            mail = BytesParser(policy=charsets.POLICY).parsebytes(content)
        except RecursionError as wrong:
            raise NotAnEmail("Not an email: it is nested too deeply.") from wrong
        if not any(mail.get(name) for name in ("From", "Message-ID", "Received", "Return-Path", "Date")):
            raise NotAnEmail("Not an email: it has none of the usual headers.")
        return cls(mail, recipient, envelope_sender)

    def headers(self, name: str) -> list[str]:
        """Return all headers of a name, each on one line, not decoded."""
        found = (value for known, value in self.mail.raw_items() if known.lower() == name.lower())
        return [" ".join(str(value).split()) for value in found]

    def header(self, name: str) -> str:
        """Return the first header of a name, decoded; "" if there is none."""
        raw = charsets.decode_raw_bytes(next(iter(self.headers(name)), "")[:MAX_HEADER_LENGTH])
        return clean_text(charsets.decode_header_words(raw))

    @cached_property
    def sender(self) -> str:
        """The address in From, in lower case."""
        return next(iter(extract_addresses(self.headers("From"))), "")

    @cached_property
    def recipients(self) -> list[str]:
        """All addresses that the email was sent to, the most reliable source first."""
        found = [
            self.recipient,
            *(address for name in RECIPIENT_HEADERS for address in extract_addresses(self.headers(name))),
        ]
        return list(dict.fromkeys(address for address in found if address))

    @cached_property
    def message_id(self) -> str:
        """The Message-ID, or a digest of the email if it has none."""
        found = MESSAGE_IDS.search(" ".join(self.headers("Message-ID")))
        if found and len(found[0]) <= MAX_MESSAGE_ID_LENGTH:
            return clean_text(found[0])
        values = [self.header(name) for name in ("From", "Date", "Subject")]
        digest = hashlib.sha256("\0".join([*values, self.body("plain"), self.body("html")]).encode()).hexdigest()
        return f"<{digest}@no-message-id.invalid>"

    @cached_property
    def answered_ids(self) -> list[str]:
        """The Message-IDs of the emails that this one answers, the nearest first."""
        nearest = MESSAGE_IDS.findall(" ".join(self.headers("In-Reply-To")))
        before = MESSAGE_IDS.findall(" ".join(self.headers("References")))
        return list(dict.fromkeys([*nearest, *reversed(before)]))[:MAX_ADDRESSES]

    @cached_property
    def date(self) -> datetime | None:
        """The value of Date; None if it is missing or malformed."""
        try:
            found = parsedate_to_datetime(next(iter(self.headers("Date")), ""))
        except (ValueError, TypeError, OverflowError):
            return None
        return found if found.tzinfo is not None else None

    @cached_property
    def return_path(self) -> str | None:
        """The address for notices about this email: "" if it must not be answered, None if it is unknown."""
        if self.envelope_sender is not None:
            path = self.envelope_sender
        elif paths := self.headers("Return-Path"):
            path = paths[0]
        else:
            return None
        # Postfix passes the empty sender as MAILER-DAEMON.
        return "" if EMPTY_PATH.fullmatch(path.strip()) else path

    @cached_property
    def auto_reply_reason(self) -> str:
        """The header that marks the email as written by a program; "" if a person may have written it."""
        return auto_replies.find_reason(
            self.headers,
            subject=self.header("Subject"),
            sender=self.sender,
            content_type=self.mail.get_content_type(),
            has_return_path=self.return_path != "",
        )

    @cached_property
    def auto_reply_doubt(self) -> str:
        """The reason why a program may have written the email, though nothing proves it; else ""."""
        return auto_replies.find_doubt(subject=self.header("Subject"), sender=self.sender)

    @cached_property
    def parts(self) -> list[Message]:
        """The leaf parts, in order; an attached email is one part."""
        return list(leaf_parts(self.mail))[:MAX_PARTS]

    def body(self, subtype: str) -> str:
        """Return the text (`plain`) or the HTML (`html`) of the email; "" if it has none."""
        found = [
            part
            for part in self.parts
            if part.get_content_type() == f"text/{subtype}" and content_disposition(part) != "attachment"
        ]
        # Apple Mail continues the text in another part after each file. A part with a name is a file, unless it is the
        # only one.
        own = [part for part in found if not part_file_name(part)] or found[:1]
        return "\n".join(map(decode_text, own))

    @cached_property
    def reply_content(self) -> Reply:
        """The reply without quotes, and an end that may be a quote."""
        html, plain = self.body("html"), self.body("plain")
        if len(html) > MAX_HTML_LENGTH:
            # The reply usually stands above the quote.
            html = "" if plain.strip() else html[:MAX_HTML_LENGTH].rpartition("<")[0]
        if html:
            reply = reply_parser.parse_html_reply(html)
            if reply.text or reply.images:
                return reply
        return reply_parser.parse_text_reply(plain)

    @cached_property
    def attachments(self) -> list[Attachment]:
        """The attached files, without images that only the quote shows."""
        html, images = self.body("html"), self.reply_content.images
        return [file for part in self.parts if (file := as_attachment(part)) and is_own_attachment(file, html, images)]


def leaf_parts(mail: Message) -> Iterator[Message]:
    """Yield the parts that have content of their own; an attached email counts as one file."""
    if mail.is_multipart() and mail.get_content_maintype() == "multipart":
        for part in mail.get_payload():
            if isinstance(part, Message):
                yield from leaf_parts(part)
    else:
        yield mail


def as_attachment(part: Message) -> Attachment | None:
    """Return a part as a file; None if it is body text or a signature."""
    is_body = (
        part.get_content_type() in BODY_TYPES and content_disposition(part) != "attachment" and not part_file_name(part)
    )
    if is_body or part.get_content_type() in ("application/pgp-signature", "application/pkcs7-signature"):
        return None
    content_id = " ".join(str(part.get("Content-ID", "")).split()).strip("<>")
    return Attachment(
        name=part_file_name(part) or default_file_name(part),
        content_type=part.get_content_type(),
        content=part_content(part),
        content_id=content_id,
    )


def part_content(part: Message) -> bytes:
    """Return the bytes of a part; for an attached email its source, or nothing if it is too malformed."""
    content = part.get_payload(decode=True)
    if isinstance(content, bytes):
        return content
    try:
        return b"\n".join(mail.as_bytes() for mail in embedded_emails(part))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return b""


def embedded_emails(part: Message) -> list[Message]:
    within = part.get_payload() if part.is_multipart() else []
    return [mail for mail in within if isinstance(mail, Message)]


def default_file_name(part: Message) -> str:
    """Return a name for a file without one: the subject of an attached email, else the kind of file."""
    for mail in embedded_emails(part):
        return f"{InboundEmail(mail).header('Subject') or 'Email'}.eml"
    ending = mimetypes.guess_extension(part.get_content_type()) or ""
    return f"{part.get_content_maintype()}{ending}"


def is_own_attachment(file: Attachment, html: str, images: frozenset[str]) -> bool:
    """Tell whether a file belongs to the reply: an image that the HTML shows only in the quote does not."""
    return not file.content_id or file.content_id in images or f"cid:{file.content_id}" not in html


def part_file_name(part: Message) -> str:
    try:
        return clean_text(charsets.decode_header_words(part.get_filename() or "")).strip()
    except (ValueError, LookupError, TypeError):
        return ""


def content_disposition(part: Message) -> str:
    return (part.get_content_disposition() or "").lower()


def decode_text(part: Message) -> str:
    """Return the text of a part; a wrong or unknown encoding raises no error."""
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    is_html = part.get_content_subtype() == "html"
    if is_html:
        content = INLINE_IMAGE.sub(b"", content)
    charset = part.get_content_charset(charsets.UNNAMED)
    text = charsets.decode(content, charset, longest=MAX_HTML_LENGTH + 1 if is_html else MAX_TEXT_LENGTH)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if part.get_content_subtype() == "plain" and str(part.get_param("format", "")).lower() == "flowed":
        text = join_flowed_lines(text, drops_space=str(part.get_param("delsp", "")).lower() == "yes")
    return clean_text(text)


def join_flowed_lines(text: str, *, drops_space: bool) -> str:
    """Join lines that were only wrapped (format=flowed, RFC 3676)."""
    # A list of pieces: appending to one long string takes quadratic time.
    out: list[list[str]] = []
    goes_on = False
    for line in text.split("\n"):
        line = line.removeprefix(" ")
        if goes_on and not line.startswith(">"):
            out[-1].append(line)
        else:
            out.append([line])
        goes_on = line.endswith(" ") and line != "-- " and not line.startswith(">")
        if goes_on and drops_space:
            out[-1][-1] = line[:-1]
    return "\n".join(map("".join, out))


def extract_addresses(values: list[str]) -> list[str]:
    """Return the addresses of some headers, in lower case; in each header those in angle brackets come first."""
    found: list[str] = []
    for value in values[:MAX_ADDRESSES]:
        unquoted = QUOTED_NAME.sub(" ", value[:MAX_HEADER_LENGTH])
        found += [*ANGLE_BRACKETS.findall(unquoted), *BARE_ADDRESS.findall(ANGLE_BRACKETS.sub(" ", unquoted))]
    return [lower_case(clean_text(address)) for address in found][:MAX_ADDRESSES]


def clean_text(text: str) -> str:
    """Return text without control characters and characters that the database cannot store."""
    return CONTROL_CHARACTERS.sub(" ", replace_unstorable(text))
