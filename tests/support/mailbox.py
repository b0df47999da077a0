"""A mail server on a real socket, and the emails it accepted."""

from email import message_from_bytes, policy
from email.message import EmailMessage


class FakeMailServer:
    def __init__(self) -> None:
        self.mails: list[tuple[str, EmailMessage]] = []
        self.answer, self.hangs_up = "250 Taken", False

    async def handle_DATA(self, server, _session, envelope) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        if self.hangs_up:
            server.transport.abort()
        if self.answer.startswith("250"):
            self.mails += [(recipient, mail) for recipient in envelope.rcpt_tos]
        return self.answer

    def to(self, user_id: str) -> list[EmailMessage]:
        """Return the emails that one customer received."""
        return [mail for recipient, mail in self.mails if recipient == address_of(user_id)]

    def subjects_to(self, user_id: str) -> list[str]:
        return [mail["Subject"] for mail in self.to(user_id)]

    @property
    def reached(self) -> list[str]:
        """The recipients, one entry per email."""
        return sorted(recipient.partition("@")[0] for recipient, _ in self.mails)


def address_of(user_id: str) -> str:
    return f"{user_id}@x.example"
