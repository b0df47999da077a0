"""The demo's mail server, which saves each email in a folder: `python -m config.demo.mail PORT`."""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from urllib.parse import quote, unquote

from aiosmtpd.smtp import SMTP, Envelope, Session

FOLDER = Path(__file__).resolve().parent.parent.parent / ".data" / "mail"
# A file name has at most 255 bytes, including the time and a number.
RECIPIENT_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One received email. Its file is `<time>.<number>,<recipient>.eml`."""

    path: Path

    @property
    def key(self) -> str:
        return self.path.name.partition(",")[0]

    @property
    def recipient(self) -> str:
        return unquote(self.path.stem.partition(",")[2])

    def parse(self) -> EmailMessage:
        return message_from_bytes(self.path.read_bytes(), policy=policy.default)


def save_email(content: bytes, *, recipient: str, folder: Path, at_ns: int, number: int) -> None:
    """Save an email, completely or not at all."""
    name = f"{at_ns:020}.{number:06},{quote(recipient, safe='@')[:RECIPIENT_LENGTH_MAX]}.eml"
    unfinished = folder / f"{name}.part"
    unfinished.write_bytes(content)
    unfinished.rename(folder / name)


def list_newest(*, folder: Path, recipient: str = "") -> Iterator[Mail]:
    """Yield the emails whose recipient contains the text, the newest first."""
    words = recipient.strip().lower()
    for path in sorted(folder.glob("*.eml"), reverse=True):
        mail = Mail(path=path)
        if words in mail.recipient.lower():
            yield mail


def find_email(key: str, *, folder: Path) -> Mail | None:
    """Return the email with this key; None if there is none."""
    # Not a glob: the key comes from a URL and may contain wildcards.
    return next((mail for mail in list_newest(folder=folder) if mail.key == key), None)


def compose_reply(mail: EmailMessage, *, words: str, sender: str, at: datetime) -> bytes:
    """Return a reply to an email, as an email program composes it."""
    reply = EmailMessage(policy=policy.SMTP)
    reply["From"], reply["To"] = sender, str(mail["Reply-To"] or mail["From"])
    subject = str(mail["Subject"] or "")
    reply["Subject"] = subject if subject.lower().startswith("re:") else f"Re: {subject}"
    reply["Date"] = at
    reply["Message-ID"] = make_msgid(domain="mail.example")
    if mail["Message-ID"]:
        reply["In-Reply-To"] = reply["References"] = str(mail["Message-ID"])
    body = mail.get_body(preferencelist=("plain",))
    quote = "\n".join(f"> {line}" for line in (str(body.get_content()) if body else "").rstrip().splitlines())
    reply.set_content(f"{words}\n\nOn {at:%a, %b %-d, %Y at %H:%M} {mail['From']} wrote:\n\n{quote}\n")
    return reply.as_bytes()


class Catcher:
    """The handler that aiosmtpd calls for each email."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = itertools.count()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        for recipient in envelope.rcpt_tos:
            number = next(self.numbers) % 1_000_000
            save_email(content, recipient=recipient, folder=self.folder, at_ns=time.time_ns(), number=number)
        return "250 Kept"


async def serve(*, port: int, folder: Path) -> None:
    """Receive email until the process is stopped."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    catcher = Catcher(folder)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(catcher, enable_SMTPUTF8=True, loop=loop), host="127.0.0.1", port=port
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(port=int(sys.argv[1]), folder=FOLDER))
