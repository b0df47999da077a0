"""Serialization of emails: the same bytes as Django's for the same message, in a fraction of the time.

Anything unusual (a header to be folded or encoded, a line that is too long) is left to Django, so only one
implementation has to be right about it.
"""

import random
import re
import sys
from email import policy
from email.errors import MessageError
from email.utils import formatdate, parseaddr
from functools import cached_property, lru_cache

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.mail.message import (
    RFC5322_EMAIL_LINE_LENGTH_LIMIT,
    SafeMIMEText,
    forbid_multi_line_headers,
    sanitize_address,
)
from django.core.validators import validate_email

UTF_8 = "utf-8"
FOLDING_POLICY = policy.compat32.clone(linesep="\r\n")
# A header line of at most so many characters is never folded, by Django (a subject) or by the email package.
UNFOLDED_MAX_LENGTH = 76
LINE_MAX_LENGTH = 78
PRINTABLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
# A value that cannot be folded; if it is too long, the email package starts a new line for it.
ONE_WORD = re.compile(r"[!-+\--:<-~]+")
ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
LABEL = r"[a-z0-9-]{1,63}"
PLAIN_ADDRESS = re.compile(rf"{ATOM}(?:\.{ATOM})*@{LABEL}(?:\.{LABEL})+", re.IGNORECASE | re.ASCII)
LINE_END = re.compile(r"\r\n|\r|\n")
PLACED_BY_DJANGO = {"subject", "from", "to", "cc", "reply-to", "date"}


class Mail(EmailMultiAlternatives):
    """An email with a text and an HTML part, or text alone. Any of Django's back-ends takes it."""

    # The envelope sender, if it is not the From address.
    return_path = ""
    # Metadata that a provider returns in its webhooks.
    metadata: dict[str, str]

    @cached_property
    def content(self) -> bytes:
        r"""The bytes of `message().as_bytes(linesep="\r\n")`; ValueError if it cannot be built."""
        if self.is_out_of_the_ordinary():
            return self.message().as_bytes(linesep="\r\n")  # type: ignore[call-arg]
        parts = [
            mime_part(str(self.body), "plain"),
            *(mime_part(str(text), "html") for text, _html in self.alternatives),
        ]
        if len(parts) == 1:
            head, body = parts[0].split(b"\r\n\r\n", 1)
            return b"%b\r\n%b\r\n%b" % (head, self.headers(), body)
        boundary = boundary_for(parts)
        between = b"\r\n--%b\r\n" % boundary
        return (
            b'Content-Type: multipart/alternative;\r\n boundary="%b"\r\nMIME-Version: 1.0\r\n%b%b%b\r\n--%b--\r\n'
            % (boundary, self.headers(), between, between.join(parts), boundary)
        )

    def is_out_of_the_ordinary(self) -> bool:
        """Return whether it must be left to Django."""
        return bool(
            settings.DEFAULT_CHARSET != UTF_8
            or self.encoding
            or self.attachments
            or self.cc
            or not self.body
            or not self.to
            or "Message-ID" not in self.extra_headers
            or any(name.lower() in PLACED_BY_DJANGO for name in self.extra_headers)
            or any(mime_type != "text/html" for _text, mime_type in self.alternatives)
        )

    def headers(self) -> bytes:
        """Return the headers that do not depend on the parts, in Django's order."""
        lines = [
            header_lines("Subject", str(self.subject)),
            header_lines("From", self.from_email),
            header_lines("To", ", ".join(self.to)),
        ]
        if self.reply_to:
            lines.append(header_lines("Reply-To", ", ".join(self.reply_to)))
        lines.append(header_lines("Date", formatdate(localtime=settings.EMAIL_USE_LOCALTIME)))
        lines += [header_lines(name, value) for name, value in self.extra_headers.items()]
        return b"".join(lines)


def header_lines(name: str, value: str) -> bytes:
    """Return the lines of a header; ValueError if the value contains a line break."""
    length = len(name) + 2 + len(value)
    if length <= UNFOLDED_MAX_LENGTH and PRINTABLE.fullmatch(value):
        return f"{name}: {value}\r\n".encode()
    if length > LINE_MAX_LENGTH and ONE_WORD.fullmatch(value):
        return f"{name}: \r\n {value}\r\n".encode()
    return fold_header(name, value)


@lru_cache(maxsize=256)
def fold_header(name: str, value: str) -> bytes:
    """Return a header as Django and the email package encode and fold it."""
    return FOLDING_POLICY.fold_binary(*forbid_multi_line_headers(name, value, UTF_8))


def mime_part(text: str, subtype: str) -> bytes:
    content = text.encode()
    if max(map(len, content.split(b"\n"))) > RFC5322_EMAIL_LINE_LENGTH_LIMIT:
        return SafeMIMEText(text, subtype, UTF_8).as_bytes(linesep="\r\n")
    lines = LINE_END.sub("\r\n", text).encode() if "\r" in text else content.replace(b"\n", b"\r\n")
    return b'Content-Type: text/%b; charset="utf-8"\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: %b\r\n\r\n%b' % (
        subtype.encode(),
        b"7bit" if content.isascii() else b"8bit",
        lines,
    )


def boundary_for(parts: list[bytes]) -> bytes:
    """Return a boundary that occurs in none of the parts."""
    while True:
        boundary = b"===============%019d==" % random.randrange(sys.maxsize)  # noqa: S311 - no secret
        if not any(boundary in each for each in parts):
            return boundary


def mailbox(address: str) -> str:
    """Return the bare address for the envelope; ValueError if it is not valid."""
    return address if PLAIN_ADDRESS.fullmatch(address) else mailbox_read(address)


@lru_cache(maxsize=256)
def mailbox_read(address: str) -> str:
    """Return the bare address of `Name <address>` with an ASCII domain, as Django parses it."""
    try:
        bare = parseaddr(sanitize_address(address, UTF_8))[1]
        validate_email(bare)
    except (ValidationError, MessageError, IndexError) as wrong:
        raise ValueError(f"Not an email address: {address!r}") from wrong
    if "<" in address and ">" not in address:
        raise ValueError(f"Not an email address: {address!r}")
    if bare.startswith("=?"):
        # Django would send to a mailbox with that encoded name, which does not exist.
        raise ValueError(f"Characters before the @ that mail servers do not accept: {address!r}")
    return bare
