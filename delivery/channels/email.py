"""Email, through Django's mail API: SMTP by default, any provider by its back-end.

One connection is kept open across copies. What a refusal means is decided by what is known to have been sent: before
the text leaves, nothing was taken; after it, only an answer tells (DESIGN 4.13).
"""

import smtplib
from typing import Any

from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend

from delivery.channels.base import ChannelDown, Envelope, Rejected, Unavailable

# Answers of a server that speak of itself, not of the copy: it is closing, or wants us to log in.
ABOUT_ITSELF = {421, 454, 530, 534, 535}


class Email:
    """Keeps one connection of the configured back-end open."""

    def __init__(self) -> None:
        self.connection: BaseEmailBackend | None = None

    def send(self, envelope: Envelope) -> str:
        """Hand one mail over; returns the Message-ID."""
        connection = self.opened()
        try:
            mail_of(envelope, connection=connection).send()
        except smtplib.SMTPRecipientsRefused as refused:
            code, words = next(iter(refused.recipients.values()))
            raise answer(code, words) from refused
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as refused:
            self.close()
            raise answer(refused.smtp_code, refused.smtp_error) from refused
        except NotBegun as lost:
            self.close()
            raise Unavailable(f"The mail server hung up: {lost}") from lost
        except Exception:
            self.close()
            raise
        return envelope.message_id

    def opened(self) -> BaseEmailBackend:
        """Return the open connection, opening it first where there is none."""
        if self.connection is None:
            connection = mail.get_connection()
            try:
                connection.open()
            except (OSError, smtplib.SMTPException) as down:
                raise ChannelDown(f"The mail server cannot be reached: {in_words(down)}") from down
            self.connection = connection
        return self.connection

    def close(self) -> None:
        """Close the connection, whatever state it is in."""
        connection, self.connection = self.connection, None
        if connection is not None:
            try:
                connection.close()
            except (OSError, smtplib.SMTPException):
                return  # It was lost already.
