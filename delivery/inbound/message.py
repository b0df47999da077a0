"""A mail as it came in, read: who wrote it, to which of our addresses, in which words, with what. Nothing is believed.

It is written by strangers and by programs that break every rule, so all is read from the raw headers and parts, and
what makes no sense is left out rather than an error.
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
from delivery.inbound import charsets, reply_parser
from delivery.inbound.charsets import LONGEST_HEADER

# Whom it went to, by who saw it last before us: a forwarding server, a mailbox, the writer.
TO = ("Delivered-To", "X-Original-To", "Envelope-To", "X-Envelope-To", "X-Forwarded-To", "To", "Cc", "Bcc")
QUOTED = re.compile(r'"[^"]*"')
# Each begins and is split at one place alone, so that none takes the square of what strangers write.
ANGLED = re.compile(r"<([^<>\s@]+@[^<>\s@]+)>")
BARE = re.compile(r"(?<![^\s<>,;:()\[\]@])[^\s<>,;:()\[\]@]+@[^\s<>,;:()\[\]@]+")
MESSAGE_IDS = re.compile(r"<[^<>\s@]+@[^<>\s]+>")
LONGEST_HTML = 2_000_000
LONGEST_TEXT = 1_000_000
LONGEST_ID = 500
MOST_ADDRESSES = 100
MOST_PARTS = 200
# What is read, or says the same as what is read; an invitation to a meeting, say, is a file.
WORDS = {f"text/{subtype}" for subtype in ("plain", "html", "enriched", "richtext", "x-amp-html", "watch-html")}
# A picture that is written out in the HTML itself, before or after the words.
PICTURE_IN_LINE = re.compile(rb"data:[\w.+/-]{1,100};base64,[A-Za-z0-9+/=%\s]*")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

# Headers by which programs say that nobody wrote this, and the values that say so (RFC 3834, and older habits).
BY_NOBODY = {
    "Auto-Submitted": re.compile(r"(?!no\b).+", re.IGNORECASE | re.DOTALL),
    "X-Autoreply": re.compile(r"(?!no\b).*", re.IGNORECASE | re.DOTALL),
    "X-Autorespond": re.compile(r".*", re.DOTALL),
    "X-Autoresponder": re.compile(r".*", re.DOTALL),
    "X-Auto-Reply-From": re.compile(r".*", re.DOTALL),
    "X-Mail-Autoreply": re.compile(r".*", re.DOTALL),
    "X-FC-MachineGenerated": re.compile(r"true", re.IGNORECASE),
    "X-POST-MessageClass": re.compile(r"9; Autoresponder.*", re.IGNORECASE),
    "Precedence": re.compile(r"bulk|junk|auto_?reply", re.IGNORECASE),
    "Return-Path": re.compile(r"<(?:MAILER-DAEMON)?>", re.IGNORECASE),
    "X-Failed-Recipients": re.compile(r".+", re.DOTALL),
    "Subject": re.compile(
        r"(?:(?:auto: ?)?out of (?:the )?office|auto(?:matic)?[ -]?(?:reply|response)|autoreply"
        r"|away from (?:my mail|the office)|vacation (?:reply|response|message|notice)"
        r"|abwesenheit|abwesenheitsnotiz|abwesend|automatische antwort|automatisch antwoord|afwezig(?:heid)?"
        r"|r[ée]ponse automatique|absence du bureau|respuesta autom[áa]tica|fuera de la oficina|risposta automatica"
        r"|fuori (?:sede|ufficio)|resposta autom[áa]tica|automatiskt? svar|autosvar|automaattinen vastaus|poissa"
        r"|odpowied[źz] automatyczna|автоматический ответ|автоответ"
        # In these no space ends a word; what goes on otherwise is a sentence about an automatic reply.
        r"|自動(?:返信|応答)(?:メール|メッセージ)?|(?:自动(?:答复|回复)|自動回覆)(?:邮件|郵件|信息|訊息|消息)?"
        r"|(?:mail )?delivery (?:status notification|failure|failed)|undeliver(?:ed|able)|returned mail)\b.*"
        # Words that people begin with as well: only where nothing follows, or what a program puts there.
        r"|(?:ooo|(?:i am |i'm )?on (?:vacation|holiday|annual leave|parental leave)|автоответчик)"
        r"(?:\s*[:(].*|\s*[–—-](?:\s.*)?|\s+(?:until|till)\b.*|[\s.!]*)",
        re.IGNORECASE | re.DOTALL,
    ),
}
PROGRAMS = re.compile(r"(?:mailer-daemon|postmaster|no-?reply|do-?not-?reply|mail-daemon|bounces?[+@-])", re.IGNORECASE)


class NotAMail(ValueError):
    """What came in is no mail; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file that came with a mail; `content_id` where its HTML shows it."""

    name: str
    content_type: str
    content: bytes
    content_id: str


@dataclass(frozen=True)
class InboundEmail:
    """A mail; `recipient` and `sender` are the envelope's, where who handed it over knows them (None: nobody told)."""

    mail: Message
    recipient: str = ""
    envelope_sender: str | None = None

    @classmethod
    def read(cls, content: bytes, *, recipient: str = "", envelope_sender: str | None = None) -> "InboundEmail":
        """Read a mail from its bytes; NotAMail for anything else."""
        if not content.strip():
            raise NotAMail("There is no mail: nothing came in.")
        try:
            mail = BytesParser(policy=charsets.POLICY).parsebytes(content)
        except RecursionError as wrong:
            raise NotAMail("This is no mail: it is nested too deeply to be read.") from wrong
        if not any(mail.get(name) for name in ("From", "Message-ID", "Received", "Return-Path", "Date")):
            raise NotAMail("This is no mail: it has none of the headers every mail has.")
        return cls(mail, recipient, envelope_sender)

    def headers(self, name: str) -> list[str]:
        """All headers of a name, each on one line, as they stand there."""
        found = (value for known, value in self.mail.raw_items() if known.lower() == name.lower())
        return [" ".join(str(value).split()) for value in found]

    def header(self, name: str) -> str:
        """The first header of a name, with its encoded words read; "" where there is none."""
        raw = next(iter(self.headers(name)), "")[:LONGEST_HEADER]
        # Some write them as they are, in UTF-8 (RFC 6532).
        raw = raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return clean(charsets.decode_words(raw))

    @cached_property
    def sender(self) -> str:
        """The address it says it is from, in lower case."""
        return next(iter(addresses(self.headers("From"))), "")

    @cached_property
    def recipients(self) -> list[str]:
        """Every address it went to as far as anybody can tell, who told the surest first."""
        found = [self.recipient, *(address for name in TO for address in addresses(self.headers(name)))]
        return list(dict.fromkeys(address for address in found if address))

    @cached_property
    def message_id(self) -> str:
        """What tells it from every other mail: its Message-ID, or a digest where it has none."""
        found = MESSAGE_IDS.search(" ".join(self.headers("Message-ID")))
        if found and len(found[0]) <= LONGEST_ID:
            return clean(found[0])
        told = [self.header(name) for name in ("From", "Date", "Subject")]
        digest = hashlib.sha256("\0".join([*told, self.body("plain"), self.body("html")]).encode()).hexdigest()
        return f"<{digest}@no-message-id.invalid>"

    @cached_property
    def answers(self) -> list[str]:
        """The Message-IDs of what it answers, the nearest first."""
        nearest = MESSAGE_IDS.findall(" ".join(self.headers("In-Reply-To")))
        before = MESSAGE_IDS.findall(" ".join(self.headers("References")))
        return list(dict.fromkeys([*nearest, *reversed(before)]))[:MOST_ADDRESSES]

    @cached_property
    def date(self) -> datetime | None:
        """When it says it was written; None where it says nothing that makes sense."""
        try:
            found = parsedate_to_datetime(next(iter(self.headers("Date")), ""))
        except (ValueError, TypeError, OverflowError):
            return None
        return found if found.tzinfo is not None else None

    @cached_property
    def auto_reply_reason(self) -> str:
        """Why a program must have written it, as the header that says so; "" where somebody may have."""
        # Postfix calls the empty sender by this name.
        if self.envelope_sender is not None and self.envelope_sender.strip("<> ").upper() in ("", "MAILER-DAEMON"):
            return "Return-Path: <>"
        for name, says_so in BY_NOBODY.items():
            for value in [self.header(name)] if name == "Subject" else self.headers(name):
                if says_so.fullmatch(value):
                    return f"{name}: {value[:100]}"
        if self.mail.get_content_type() == "multipart/report":
            return "Content-Type: multipart/report"
        if PROGRAMS.match(self.sender):
            return f"From: {self.sender}"
        return ""

    @cached_property
    def parts(self) -> list[Message]:
        """Its leaves, in order; what is a mail of its own is one."""
        return list(leaves(self.mail))[:MOST_PARTS]

    def body(self, subtype: str) -> str:
        """Its text or its HTML, as it came; "" where it has none."""
        found = [
            part
            for part in self.parts
            if part.get_content_type() == f"text/{subtype}" and disposition(part) != "attachment"
        ]
        # Apple Mail goes on in another part below each file; one with a name is a file, unless it is all there is.
        own = [part for part in found if not name_of(part)] or found[:1]
        return "\n".join(map(decoded, own))

    @cached_property
    def written(self) -> tuple[str, set[str]]:
        """What its writer wrote, without what they answer, and the pictures among it by their Content-ID."""
        html, plain = self.body("html"), self.body("plain")
        if len(html) > LONGEST_HTML:
            # What was written stands above what it answers.
            html = "" if plain.strip() else html[:LONGEST_HTML].rpartition("<")[0]
        if html:
            words, pictures = reply_parser.of_html(html)
            if words or pictures:
                return words, pictures
        return reply_parser.of_text(plain), set()

    @cached_property
    def enclosed(self) -> list[Attachment]:
        """The files that came with it: attachments, and pictures in what was written, not in what it answers."""
        html, (_, pictures) = self.body("html"), self.written
        return [file for part in self.parts if (file := enclosed(part)) and belongs(file, html, pictures)]


def leaves(mail: Message) -> Iterator[Message]:
    """Go through the parts that hold something; a forwarded mail is taken for a file."""
    if mail.is_multipart() and mail.get_content_maintype() == "multipart":
        for part in mail.get_payload():
            if isinstance(part, Message):
                yield from leaves(part)
    else:
        yield mail


def enclosed(part: Message) -> Attachment | None:
    """A part as a file; None where it is words."""
    is_words = part.get_content_type() in WORDS and disposition(part) != "attachment" and not name_of(part)
    if is_words or part.get_content_type() in ("application/pgp-signature", "application/pkcs7-signature"):
        return None
    content_id = " ".join(str(part.get("Content-ID", "")).split()).strip("<>")
    return Attachment(
        name=name_of(part) or unnamed(part),
        content_type=part.get_content_type(),
        content=content_of(part),
        content_id=content_id,
    )


def content_of(part: Message) -> bytes:
    """The bytes of a part; of a mail within a mail its own, nothing where it is too broken to be written."""
    content = part.get_payload(decode=True)
    if isinstance(content, bytes):
        return content
    try:
        return b"\n".join(mail.as_bytes() for mail in mails_in(part))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return b""


def mails_in(part: Message) -> list[Message]:
    """The mails a part is made of; most are made of none."""
    within = part.get_payload() if part.is_multipart() else []
    return [mail for mail in within if isinstance(mail, Message)]


def unnamed(part: Message) -> str:
    """What to call a file that has no name: by what it is about, or by its kind."""
    for mail in mails_in(part):
        return f"{InboundEmail(mail).header('Subject') or 'Mail'}.eml"
    ending = mimetypes.guess_extension(part.get_content_type()) or ""
    return f"{part.get_content_maintype()}{ending}"


def belongs(file: Attachment, html: str, pictures: set[str]) -> bool:
    """Whether a file is the writer's own: what the HTML shows only within a quote is what they answer."""
    return not file.content_id or file.content_id in pictures or f"cid:{file.content_id}" not in html


def name_of(part: Message) -> str:
    """What a part calls itself as a file."""
    try:
        return clean(charsets.decode_words(part.get_filename() or "")).strip()
    except (ValueError, LookupError, TypeError):
        return ""


def disposition(part: Message) -> str:
    """Whether a part is to be shown or kept."""
    return (part.get_content_disposition() or "").lower()


def decoded(part: Message) -> str:
    """The words of a part, whatever it says of their encoding."""
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    is_html = part.get_content_subtype() == "html"
    if is_html:
        content = PICTURE_IN_LINE.sub(b"", content)
    charset = part.get_content_charset(charsets.FALLBACK)
    words = charsets.decode(content, charset, longest=LONGEST_HTML + 1 if is_html else LONGEST_TEXT)
    words = words.replace("\r\n", "\n").replace("\r", "\n")
    if part.get_content_subtype() == "plain" and str(part.get_param("format", "")).lower() == "flowed":
        words = flowed(words, drops_space=str(part.get_param("delsp", "")).lower() == "yes")
    return clean(words)


def flowed(words: str, *, drops_space: bool) -> str:
    """Join lines that were broken only to be short (RFC 3676)."""
    # In pieces: to add to a long line again and again takes the square of its length.
    out: list[list[str]] = []
    goes_on = False
    for line in words.split("\n"):
        line = line.removeprefix(" ")
        if goes_on and not line.startswith(">"):
            out[-1].append(line)
        else:
            out.append([line])
        goes_on = line.endswith(" ") and line != "-- " and not line.startswith(">")
        if goes_on and drops_space:
            out[-1][-1] = line[:-1]
    return "\n".join(map("".join, out))


def addresses(values: list[str]) -> list[str]:
    """The bare addresses of some headers, in lower case: in each, those in angle brackets first."""
    found: list[str] = []
    for value in values[:MOST_ADDRESSES]:
        unquoted = QUOTED.sub(" ", value[:LONGEST_HEADER])
        found += [*ANGLED.findall(unquoted), *BARE.findall(ANGLED.sub(" ", unquoted))]
    return [lower_case(clean(address)) for address in found][:MOST_ADDRESSES]


def clean(words: str) -> str:
    """Words as the database and a page can hold them."""
    return CONTROL.sub(" ", replace_unstorable(words))
