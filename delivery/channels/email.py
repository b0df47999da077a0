"""Email channel, through Django's mail API: SMTP by default, or an ESP's back-end.

Each object keeps one connection open across copies, for one thread. A refusal is interpreted by how far the email got:
before the text was sent, nothing was accepted; after it, only an answer tells (behaviour 4.13).
"""

import re
import smtplib
from collections.abc import Callable
from email.errors import MessageError

from anymail.exceptions import AnymailError
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend

from delivery import process
from delivery.channels import esp
from delivery.channels.base import (
    ChannelDown,
    ConnectionRefused,
    Envelope,
    NoSuchMailbox,
    Rejected,
    SenderRefused,
    Unavailable,
)
from delivery.channels.bounce_rules import (
    names_the_sender,
    refuses_the_sender,
    says_no_such_mailbox,
    says_too_many_connections,
)
from delivery.channels.mime import Mail, mailbox
from delivery.channels.smtp import Closing, NotBegun

# Replies about the server or our login, not about the copy: closing, out of sequence, login refused. The first concerns
# this connection only.
ABOUT_THE_SERVER = {421: ConnectionRefused, **dict.fromkeys((432, 454, 503, 530, 534, 535, 538), ChannelDown)}
# After so many unanswered copies in a row the next is not begun: each costs a timeout.
MAX_LOST_IN_A_ROW = 2
# Line breaks of every kind (the email package folds at more than CR and LF) and other characters illegal in headers.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
HEADER_NAME = re.compile(r"[!-9;-~]+")


class Email:
    """Sends emails over one open connection of the configured back-end."""

    def __init__(self) -> None:
        self.connection: BaseEmailBackend | None = None

    def send(self, envelope: Envelope) -> str:
        """Send one email. Return the provider's id for it, by SMTP the Message-ID."""
        return self.send_noting(envelope, begins=lambda: None)

    def send_noting(self, envelope: Envelope, *, begins: Callable[[], object]) -> str:
        """Send one email, and call `begins` once it is built and the connection is open."""
        message = mail_of(envelope)
        if len(unanswered := process.lost_emails.copy()) >= MAX_LOST_IN_A_ROW:
            process.lost_emails.clear()
            raise ChannelDown(f"The mail server does not answer: {unanswered[-1]}")
        is_used = self.connection is not None
        self.open_connection()
        begins()
        if is_used:
            try:
                return self.send_once(message)
            except NotBegun:
                # The server may hang up between two copies; a new connection decides.
                self.close()
        try:
            return self.send_once(message)
        except Closing as closing:
            self.close()
            raise ConnectionRefused(f"The mail server is closing: {printable(str(closing))}") from closing
        except NotBegun as lost:
            self.drop_connection(lost)
            raise Unavailable(f"The mail server was lost: {printable(str(lost))}") from lost

    def send_once(self, message: Mail) -> str:
        """Send on the open connection; translate failures into the channel's exceptions."""
        connection, sender = self.open_connection(), envelope_sender(message)
        esp.add_provider_ids(message, connection)
        try:
            connection.send_messages([message])
        except NotBegun:
            raise
        except smtplib.SMTPRecipientsRefused as refused:
            process.lost_emails.clear()
            first = next(iter(refused.recipients.values()))
            raise self.refusal(*first, of_recipient=True, sender=sender) from refused
        except smtplib.SMTPSenderRefused as refused:
            process.lost_emails.clear()
            raise self.refusal(refused.smtp_code, refused.smtp_error, of_recipient=False, sender=sender) from refused
        except smtplib.SMTPDataError as refused:
            process.lost_emails.clear()
            raise self.refusal(refused.smtp_code, refused.smtp_error, of_recipient=True, sender=sender) from refused
        except smtplib.SMTPNotSupportedError as refused:
            raise Rejected(f"The mail server does not support a feature that this email needs: {refused}") from refused
        except AnymailError as wrong:
            meaning = esp.meaning_of(wrong)
            if meaning is None:
                self.drop_connection(wrong)
                raise
            process.lost_emails.clear()
            raise type(meaning)(printable(str(meaning))) from wrong
        except Exception as lost:
            self.drop_connection(lost)
            raise
        process.lost_emails.clear()
        return id_of(message)

    def refusal(self, code: int, words: bytes | str, *, of_recipient: bool, sender: str) -> Rejected | Unavailable:
        """Return the exception for a server's refusal, with the server's words."""
        said = f"{code} {printable(words.decode(errors='replace') if isinstance(words, bytes) else words)}".strip()
        if code in ABOUT_THE_SERVER:
            self.close()
            return ABOUT_THE_SERVER[code](f"The mail server refuses us: {said}")
        if code < 500 and says_too_many_connections(said):
            self.close()
            return ConnectionRefused(f"The mail server refuses us: {said}")
        if code < 500:
            return Unavailable(said)
        if names_the_sender(said, sender) or (not of_recipient and refuses_the_sender(code, said)):
            return SenderRefused(f"The mail server refuses the sender {sender}: {said}")
        return NoSuchMailbox(said) if of_recipient and says_no_such_mailbox(said) else Rejected(said)

    def drop_connection(self, reason: Exception) -> None:
        """Close the connection, as its state is unknown."""
        process.lost_emails.append(printable(f"{type(reason).__name__}: {reason}"))
        self.close()

    def open_connection(self) -> BaseEmailBackend:
        """Return the open connection; open it first if needed."""
        if self.connection is None:
            try:
                self.connection = mail.get_connection()
                self.connection.open()
            except Exception as down:  # No server, login refused, no such back-end: nothing has left.
                self.close()
                raise ConnectionRefused(f"The mail server cannot be reached: {printable(str(down))}") from down
        return self.connection

    def close(self) -> None:
        """Close the connection, whatever its state."""
        connection, self.connection = self.connection, None
        if connection is not None:
            try:
                connection.close()
            except OSError:
                return  # It was lost already.


def mail_of(envelope: Envelope) -> Mail:
    """Convert an envelope to an email; Rejected if that is not possible."""
    headers = {"Message-ID": envelope.message_id, **envelope.headers}
    addresses = {
        "sender": envelope.sender,
        "reply address": envelope.reply_to,
        "return path": envelope.return_path,
    }
    written = {"subject": envelope.subject, "recipient": ", ".join(envelope.to), **addresses, **headers}
    for what, value in written.items():
        if CONTROL.search(value):
            raise Rejected(f"The {what} contains a line break or another control character.")
    if misnamed := [name for name in headers if not HEADER_NAME.fullmatch(name)]:
        raise Rejected(f"“{printable(misnamed[0])}” is not a valid header name.")
    if not envelope.to:
        raise Rejected("The message has no recipient.")
    for address in (*envelope.to, *filter(None, addresses.values())):
        try:
            mailbox(address)
        except ValueError as wrong:
            raise Rejected(f"“{printable(address)}” is not a valid email address.") from wrong
    message = Mail(
        envelope.subject,
        envelope.text,
        envelope.sender,
        envelope.to,
        headers=headers,
        reply_to=[envelope.reply_to] if envelope.reply_to else [],
        alternatives=[(envelope.html, "text/html")] if envelope.html else [],
    )
    message.return_path = envelope.return_path
    try:
        message.content  # noqa: B018 - fails here, before a server is contacted
    except (ValueError, MessageError) as wrong:
        raise Rejected(f"The email cannot be built: {printable(str(wrong))}") from wrong
    return message


def envelope_sender(message: Mail) -> str:
    """Return the envelope sender of an email, in lower case."""
    return mailbox(message.return_path or message.from_email).lower()


def id_of(message: Mail) -> str:
    """Return the provider's id if its back-end (anymail's) reports one, else the Message-ID."""
    status = getattr(message, "anymail_status", None)
    return str(getattr(status, "message_id", None) or message.extra_headers["Message-ID"])


def printable(words: str) -> str:
    """Return the text on one line, without characters that a page or the database cannot hold."""
    return " ".join(CONTROL.sub(" ", words).split())
