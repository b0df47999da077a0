"""Django's SMTP back-end, with fewer waits for the server, and knowing how far a mail got before something went wrong.

Up to the first byte of the text, no server can have taken the mail: what goes wrong until then is `NotBegun`, or the
server's own refusal. After it, only the server's answer tells.
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
    """The connection was lost before the first byte of the text left, so the mail was surely not taken."""


class Closing(NotBegun):
    """The server said that it is closing (421), before the first byte of the text left."""


class Garbled(smtplib.SMTPException):
    """What the server answered to the text is no answer."""


class Connection(smtplib.SMTP):
    """Sends MAIL, RCPT and DATA in one write where the server takes that (RFC 2920), else one after the other."""

    def connect(self, *args: Any, **kwargs: Any) -> Answer:
        """Connect, so that small writes are not held back."""
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
        """Hand one mail over, and return the recipients refused while others were not.

        Raises smtplib's refusals and `NotBegun` where it was surely not taken, anything else where nobody can know.
        """
        recipients = [to_addrs] if isinstance(to_addrs, str) else list(to_addrs)
        content = msg.encode("ascii") if isinstance(msg, str) else msg
        try:
            self.ehlo_or_helo_if_needed()
            commands = [command("MAIL FROM", from_addr, [*mail_options, *self.said_of(content)])]
            commands += [command("RCPT TO", each, rcpt_options) for each in recipients]
            refused = self.announce([*commands, b"DATA\r\n"], from_addr, recipients)
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

    def said_of(self, content: bytes) -> list[str]:
        """Return what MAIL tells of the text, where the server wants to know."""
        options = [f"SIZE={len(content)}"] if self.has_extn("size") else []
        if self.has_extn("8bitmime") and not content.isascii():
            options.append("BODY=8BITMIME")
        return options

    def announce(self, commands: list[bytes], sender: str, recipients: list[str]) -> dict[str, Answer]:
        """Get to where the server asks for the text, and return the recipients refused; or raise its refusal."""
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
                answers.append(self.answer(hoped_for=SEND_THE_TEXT if line is commands[-1] else ACCEPTED))
        except smtplib.SMTPServerDisconnected as lost:
            if refusal := refusal_of(answers, sender, recipients):
                raise refusal from lost
            raise
        if refusal := refusal_of(answers, sender, recipients):
            self.call_off(text_is_awaited=answers[-1][0] in SEND_THE_TEXT)
            raise refusal
        return refused_recipients(answers, recipients)

    def answer(self, *, hoped_for: range) -> Answer:
        """Read one answer; what is neither hoped for nor a refusal ends the connection."""
        try:
            code, words = self.getreply()
        except smtplib.SMTPResponseException as garbled:
            raise NotBegun(str(garbled)) from garbled
        if code == CLOSING:
            self.close()
            raise Closing(words.decode(errors="replace"))
        if code not in hoped_for and code not in REFUSED:
            self.close()
            raise NotBegun(f"The server's answer makes no sense: {code} {words!r}")
        return code, words

    def call_off(self, *, text_is_awaited: bool) -> None:
        """Have the server forget the mail it refused; the refusal stands whatever happens here."""
        try:
            if text_is_awaited:
                # Nobody is left to send it to, yet the server asks for the text, as DATA came along: an empty one.
                self.send(b".\r\n")
                self.getreply()
            if self.rset()[0] not in ACCEPTED:
                self.close()
        except smtplib.SMTPException:
            self.close()


class SecureConnection(Connection, smtplib.SMTP_SSL):
    """The same, encrypted from the first byte."""


class EmailBackend(smtp.EmailBackend):
    """Django's SMTP back-end on the connection above; its settings are Django's."""

    @property
    def connection_class(self) -> type[Connection]:
        return SecureConnection if self.use_ssl else Connection

    def open(self) -> bool | None:
        """Open the connection and exchange greetings; a server that cannot is found out here, before any mail."""
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
    """What the answers so far to MAIL, each RCPT and DATA come to; None as long as the mail may go on."""
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
    """The recipients that the answers to MAIL, each RCPT and DATA refuse."""
    return {each: answer for each, answer in zip(recipients, answers[1:], strict=False) if answer[0] not in ACCEPTED}


def command(verb: str, address: str, options: Sequence[str]) -> bytes:
    """Return MAIL or RCPT as a line; ValueError where it would be more than one."""
    bracketed = f"<{address}>" if PLAIN_ADDRESS.fullmatch(address) else smtplib.quoteaddr(address)
    line = " ".join((f"{verb}:{bracketed}", *options))
    if "\r" in line or "\n" in line:
        raise ValueError(f"An address holds a line break: {address!r}")
    return f"{line}\r\n".encode("ascii")


def dot_stuff(content: bytes) -> bytes:
    """Return a mail as it is sent: its lines never mistaken for the end, then the end."""
    if b"\n." in content or content.startswith(b"."):
        content = DOT_AT_A_START.sub(b"..", content)
    return content + (b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n")
