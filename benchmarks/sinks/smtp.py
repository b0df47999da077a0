"""A fast mail server with fixed replies: `python -m benchmarks.sinks.smtp [FILE] [--delay MILLISECONDS]`.

It prints its port, accepts every email until SIGTERM, then prints their number. It writes the Message-IDs to FILE, one
per line. `--delay` holds back each answer, as a distant server does; commands that arrive together are answered
together. The answer to the command STAT is the number of emails so far, and of those begun and not answered, or
answered on a connection that was lost before the client wrote again.
"""

import argparse
import asyncio
import re
import signal
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TextIO

END_OF_TEXT = b"\r\n.\r\n"
MESSAGE_ID = re.compile(rb"^message-id:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
REPLIES = {
    b"EHLO": b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}
OK = b"250 ok\r\n"


class Sink:
    """The state that all connections share."""

    def __init__(self, record: TextIO | None, *, delay: float) -> None:
        self.record = record
        self.delay = delay
        self.emails = 0
        # Emails begun, by MAIL, and those whose text was answered.
        self.begun = self.answered = 0

    def statistics(self) -> bytes:
        """Return the numbers of emails so far, and of those begun and not answered."""
        return b"250 %d %d\r\n" % (self.emails, self.begun - self.answered)

    def count_email(self, received: bytes, start: int, end: int) -> None:
        """Count the email between these offsets."""
        self.emails += 1
        if self.record is not None and (found := MESSAGE_ID.search(received, start, end)):
            self.record.write(found[1].decode() + "\n")


class Conversation(asyncio.Protocol):
    """One connection: all commands of one read are answered with one write."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.waiting = b""
        self.in_text = False
        # Texts answered since the client last wrote: it may not have read that.
        self.unread = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self.unread = 0
        if self.waiting:
            data = self.waiting + data
        replies = []
        start = texts = 0
        while True:
            if self.in_text:
                end = data.find(END_OF_TEXT, start)
                if end < 0:
                    break
                self.sink.count_email(data, start, end)
                texts += 1
                self.in_text = False
                start = end + len(END_OF_TEXT)
                replies.append(OK)
            else:
                end = data.find(b"\r\n", start)
                if end < 0:
                    break
                verb = data[start : start + 4].upper()
                self.in_text = verb == b"DATA"
                start = end + 2
                self.sink.begun += verb == b"MAIL"
                replies.append(self.sink.statistics() if verb == b"STAT" else REPLIES.get(verb, OK))
        self.waiting = data[start:]
        if replies and self.sink.delay:
            # Equal delays keep the order of the answers.
            asyncio.get_running_loop().call_later(self.sink.delay, self.answer, b"".join(replies), texts)
        elif replies:
            self.answer(b"".join(replies), texts)

    def answer(self, replies: bytes, texts: int) -> None:
        """Write replies, which answer so many texts of emails, if the client is still there."""
        if not self.transport.is_closing():
            self.transport.write(replies)
            self.sink.answered += texts
            self.unread += texts

    def connection_lost(self, _error: Exception | None) -> None:
        # A client that is killed does not read the last answer.
        self.sink.answered -= self.unread


async def serve(record: TextIO | None, *, delay: float) -> int:
    """Accept email until SIGTERM; return the number of emails."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    sink = Sink(record, delay=delay)
    async with await loop.create_server(partial(Conversation, sink), "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await over.wait()
    return sink.emails


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--delay", type=float, default=0, metavar="MILLISECONDS")
    options = parser.parse_args()
    with ExitStack() as files:
        record = files.enter_context(options.file.open("w", buffering=1)) if options.file else None
        print(asyncio.run(serve(record, delay=options.delay / 1000)))
