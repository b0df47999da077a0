"""A mail server on a real socket, and the mail it took."""

from email import message_from_bytes, policy
from email.message import EmailMessage


class Post:
    """A mail server on a real socket, and every mail it took."""

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
        """The mails one customer got."""
        return [mail for recipient, mail in self.mails if recipient == address(user_id)]

    def subjects_to(self, user_id: str) -> list[str]:
        return [mail["Subject"] for mail in self.to(user_id)]

    @property
    def reached(self) -> list[str]:
        """Who got mail, once for each mail they got."""
        return sorted(recipient.partition("@")[0] for recipient, _ in self.mails)


def address(user_id: str) -> str:
    return f"{user_id}@x.example"
