"""SMTP back-end of Django's, with fewer round trips, and aware of how far an email got before a failure.

Until the first byte of the text no server can have accepted the email: a failure is `NotBegun`, or the server's own
refusal. After it, only the server's answer tells.
"""

import re
import smtplib
import socket
from collections.abc import Sequence
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends import smtp

from delivery.channels.mime import PLAIN_ADDRESS, Mail, mailbox

Answer = tuple[int, bytes]

CLOSING = 421
ACCEPTED = range(200, 300)
SEND_THE_TEXT = range(354, 355)
REFUSED = range(400, 600)
DOT_AT_A_START = re.compile(rb"(?m)^\.")


class NotBegun(smtplib.SMTPServerDisconnected):
    """The connection was lost before the first byte of the text, so the email was surely not accepted."""


class Closing(NotBegun):
    """The server is closing (421), before the first byte of the text."""


class Garbled(smtplib.SMTPException):
    """The server's answer to the text is invalid."""


class Connection(smtplib.SMTP):
    """Sends MAIL, RCPT and DATA in one write if the server supports that (RFC 2920), else one after the other."""

    def connect(self, *args: Any, **kwargs: Any) -> Answer:
        """Connect without delaying small writes."""
        answer = super().connect(*args, **kwargs)
        if self.sock is not None:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return answer

    def sendmail(
        self,
        from_addr: str,
        to_addrs: str | Sequence[str],
        msg: Any,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> dict[str, Answer]:
        """Send one email. Return the recipients that were refused while others were accepted.

        Raises smtplib's refusals and `NotBegun` if it was surely not accepted, anything else if that is uncertain.
        """
        recipients = [to_addrs] if isinstance(to_addrs, str) else list(to_addrs)
        content = msg.encode("ascii") if isinstance(msg, str) else msg
        try:
            self.ehlo_or_helo_if_needed()
            commands = [command("MAIL FROM", from_addr, [*mail_options, *self.mail_options_for(content)])]
            commands += [command("RCPT TO", each, rcpt_options) for each in recipients]
            refused = self.send_commands([*commands, b"DATA\r\n"], from_addr, recipients)
        except NotBegun:
            raise
        except smtplib.SMTPServerDisconnected as lost:
            raise NotBegun(*lost.args) from lost
        self.send(dot_stuff(content))
        code, words = self.getreply()
        if code in ACCEPTED:
            return refused
        if code not in REFUSED:
            self.close()
            raise Garbled(f"{code} {words!r}")
        if code == CLOSING:
            self.close()
        raise smtplib.SMTPDataError(code, words)

    def mail_options_for(self, content: bytes) -> list[str]:
        """Return the options of MAIL that the server supports."""
        options = [f"SIZE={len(content)}"] if self.has_extn("size") else []
        if self.has_extn("8bitmime") and not content.isascii():
            options.append("BODY=8BITMIME")
        return options

    def send_commands(self, commands: list[bytes], sender: str, recipients: list[str]) -> dict[str, Answer]:
        """Send the commands before the text. Return the recipients refused; raise if the server refuses the email."""
        at_once = self.has_extn("pipelining")
        answers: list[Answer] = []
        if at_once:
            self.send(b"".join(commands))
        try:
            for line in commands:
                if not at_once:
                    if refusal_of(answers, sender, recipients):
                        break
                    self.send(line)
                answers.append(self.read_reply(hoped_for=SEND_THE_TEXT if line is commands[-1] else ACCEPTED))
        except smtplib.SMTPServerDisconnected as lost:
            if refusal := refusal_of(answers, sender, recipients):
                raise refusal from lost
            raise
        if refusal := refusal_of(answers, sender, recipients):
            self.reset_transaction(text_is_awaited=answers[-1][0] in SEND_THE_TEXT)
            raise refusal
        return refused_recipients(answers, recipients)

    def read_reply(self, *, hoped_for: range) -> Answer:
        """Read one reply; one that is neither expected nor a refusal ends the connection."""
        try:
            code, words = self.getreply()
        except smtplib.SMTPResponseException as garbled:
            raise NotBegun(str(garbled)) from garbled
        if code == CLOSING:
            self.close()
            raise Closing(words.decode(errors="replace"))
        if code not in hoped_for and code not in REFUSED:
            self.close()
            raise NotBegun(f"Invalid reply of the server: {code} {words!r}")
        return code, words

    def reset_transaction(self, *, text_is_awaited: bool) -> None:
        """Reset the transaction after a refusal; the refusal stands whatever happens here."""
        try:
            if text_is_awaited:
                # No recipient is left, but the server waits for the text, as DATA was sent along: send an empty one.
                self.send(b".\r\n")
                self.getreply()
            if self.rset()[0] not in ACCEPTED:
                self.close()
        except smtplib.SMTPException:
            self.close()


class SecureConnection(Connection, smtplib.SMTP_SSL):
    """The same over TLS from the first byte."""


class EmailBackend(smtp.EmailBackend):
    """Django's SMTP back-end with the connection above and Django's settings."""

    @property
    def connection_class(self) -> type[Connection]:
        return SecureConnection if self.use_ssl else Connection

    def open(self) -> bool | None:
        """Connect and exchange greetings, so that a failure shows before any email."""
        opened = super().open()
        if opened and self.connection is not None:
            self.connection.ehlo_or_helo_if_needed()
        return opened

    def _send(self, email_message: EmailMessage) -> bool:
        if not isinstance(email_message, Mail) or self.connection is None:
            return super()._send(email_message)  # type: ignore[misc]
        try:
            recipients = [mailbox(each) for each in email_message.recipients()]
            sender = mailbox(email_message.return_path or email_message.from_email)
            self.connection.sendmail(sender, recipients, email_message.content)
        except smtplib.SMTPException:
            if not self.fail_silently:
                raise
            return False
        return True


def refusal_of(answers: list[Answer], sender: str, recipients: list[str]) -> smtplib.SMTPException | None:
    """Return the refusal in the replies to MAIL, each RCPT and DATA; None if the email may go on."""
    if not answers:
        return None
    code, words = answers[0]
    if code not in ACCEPTED:
        return smtplib.SMTPSenderRefused(code, words, sender)
    refused = refused_recipients(answers, recipients)
    if len(refused) == len(set(recipients)):
        return smtplib.SMTPRecipientsRefused(refused)
    if len(answers) == len(recipients) + 2 and answers[-1][0] not in SEND_THE_TEXT:
        return smtplib.SMTPDataError(*answers[-1])
    return None


def refused_recipients(answers: list[Answer], recipients: list[str]) -> dict[str, Answer]:
    """Return the refused recipients in the replies to MAIL, each RCPT and DATA."""
    return {each: answer for each, answer in zip(recipients, answers[1:], strict=False) if answer[0] not in ACCEPTED}


def command(verb: str, address: str, options: Sequence[str]) -> bytes:
    """Return MAIL or RCPT as a line; ValueError if the address contains a line break."""
    bracketed = f"<{address}>" if PLAIN_ADDRESS.fullmatch(address) else smtplib.quoteaddr(address)
    line = " ".join((f"{verb}:{bracketed}", *options))
    if "\r" in line or "\n" in line:
        raise ValueError(f"An address contains a line break: {address!r}")
    return f"{line}\r\n".encode("ascii")


def dot_stuff(content: bytes) -> bytes:
    """Return the text as it is sent: dots at line starts doubled, then the end."""
    if b"\n." in content or content.startswith(b"."):
        content = DOT_AT_A_START.sub(b"..", content)
    return content + (b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n")
