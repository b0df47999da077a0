"""A mail server on a real socket that records emails; a test may act in the middle of one."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes

from aiosmtpd.smtp import SMTP, Envelope, Session

logging.getLogger("mail.log").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Caught:
    """One email as received."""

    recipient: str
    message_id: str
    subject: str


@dataclass
class Catcher:
    """Accepts every email; `meanwhile` is called with the number of the email and its step."""

    caught: list[Caught] = field(default_factory=list)
    meanwhile: Callable[[int, str], object] = lambda _number, _step: None
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        # Created in that thread, because Playwright may have left a running loop in this one.
        self.server = asyncio.run_coroutine_threadsafe(self.listen(), self.loop).result(5)
        self.port: int = self.server.sockets[0].getsockname()[1]

    async def listen(self) -> asyncio.Server:
        return await self.loop.create_server(lambda: SMTP(self, loop=self.loop), host=self.host, port=0)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.end(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    async def end(self) -> None:
        """Accept no more connections, and close the open ones."""
        self.server.close()
        connected = asyncio.all_tasks() - {asyncio.current_task()}
        for each in connected:
            each.cancel()
        await asyncio.gather(*connected, return_exceptions=True)

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self.meanwhile(len(self.caught) + 1, "addressed")
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content)
        for recipient in envelope.rcpt_tos:
            self.caught.append(Caught(recipient, str(mail["Message-ID"]), str(mail["Subject"])))
        self.meanwhile(len(self.caught), "taken")
        return "250 Caught"
