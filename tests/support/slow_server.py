"""A mail server that takes its time for each answer, and counts connections and emails that are not answered yet."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MESSAGE_ID = re.compile(rb"^message-id:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
END_OF_TEXT = b"\r\n.\r\n"
TOO_MANY = b"421 4.7.0 Too many connections\r\n"


@dataclass(slots=True)
class Email:
    """One email: when it began, and when it was accepted; by `time.monotonic`."""

    recipient: str
    began: float
    accepted: float | None = None
    message_id: str = ""


@dataclass
class SlowServer:
    """Answers each write of a client after `delay` seconds, and takes at most `allows` connections."""

    delay: float = 0.0
    allows: int = 10_000
    emails: list[Email] = field(default_factory=list)
    connections: int = 0
    most_connections: int = 0
    refused: int = 0
    most_in_flight: int = 0
    # Connections lost after the answer to an email, without a word: the client may not have read it.
    unread: int = 0
    clients: list[asyncio.Transport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = asyncio.run_coroutine_threadsafe(self.listen(), self.loop).result(5)
        self.port: int = self.server.sockets[0].getsockname()[1]

    async def listen(self) -> asyncio.Server:
        return await self.loop.create_server(lambda: Conversation(self), host="127.0.0.1", port=0, backlog=500)

    @property
    def accepted(self) -> list[Email]:
        return [email for email in self.emails if email.accepted is not None]

    @property
    def in_flight(self) -> int:
        """How many emails have begun and are not answered, over open connections and closed ones."""
        return len(self.emails) - len(self.accepted)

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def drop(self) -> None:
        """Hang up on every client."""
        self.loop.call_soon_threadsafe(lambda: [client.abort() for client in self.clients])

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)


class Conversation(asyncio.Protocol):
    """One connection: all commands of one write are answered together."""

    def __init__(self, server: SlowServer) -> None:
        self.server = server
        self.received = b""
        self.in_text = False
        self.email: Email | None = None
        self.is_unread = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, server = transport, self.server
        if server.connections >= server.allows:
            server.refused += 1
            transport.write(TOO_MANY)
            transport.close()
            server.connections += 1
            return
        server.connections += 1
        server.clients.append(transport)
        server.most_connections = max(server.most_connections, server.connections)
        self.answer(b"220 slow\r\n")

    def connection_lost(self, _error: Exception | None) -> None:
        self.server.connections -= 1
        self.server.unread += self.is_unread

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.is_unread = False
        answers = b""
        while True:
            line, end, rest = self.received.partition(END_OF_TEXT if self.in_text else b"\r\n")
            if not end:
                break
            self.received = rest
            answers += self.take_text(line) if self.in_text else self.take_command(line)
        if answers:
            self.answer(answers)

    def take_command(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"RCPT":
            self.email = Email(line.decode().partition("<")[2].rpartition(">")[0], time.monotonic())
            self.server.emails.append(self.email)
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
        self.in_text = verb == b"DATA"
        usual = {b"EHLO": b"250-slow\r\n250 PIPELINING\r\n", b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}
        return usual.get(verb, b"250 ok\r\n")

    def take_text(self, text: bytes) -> bytes:
        self.in_text = False
        assert self.email is not None
        found = MESSAGE_ID.search(text)
        self.email.message_id = found[1].decode() if found else ""
        return b"250 taken\r\n"

    def answer(self, words: bytes) -> None:
        self.server.loop.call_later(self.server.delay, self.say, words)

    def say(self, words: bytes) -> None:
        if self.transport.is_closing():
            return
        if b"250 taken" in words and self.email is not None:
            self.email.accepted = time.monotonic()
            self.is_unread = True
        self.transport.write(words)


@contextmanager
def slow_server(*, delay: float = 0.0, allows: int = 10_000) -> Iterator[SlowServer]:
    """Run a server during the block."""
    server = SlowServer(delay=delay, allows=allows)
    try:
        yield server
    finally:
        server.close()
