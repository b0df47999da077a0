"""A fast mail server with fixed replies: `python -m benchmarks.sinks.smtp [FILE]`.

It prints its port, accepts every email until SIGTERM, then prints their number. It writes the Message-IDs to FILE, one
per line.
"""

import asyncio
import re
import signal
import sys
from contextlib import ExitStack
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

    def __init__(self, record: TextIO | None) -> None:
        self.record = record
        self.emails = 0

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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        if self.waiting:
            data = self.waiting + data
        replies = []
        start = 0
        while True:
            if self.in_text:
                end = data.find(END_OF_TEXT, start)
                if end < 0:
                    break
                self.sink.count_email(data, start, end)
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
                replies.append(REPLIES.get(verb, OK))
        self.waiting = data[start:]
        if replies:
            self.transport.write(b"".join(replies))


async def serve(record: TextIO | None) -> int:
    """Accept email until SIGTERM; return the number of emails."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    sink = Sink(record)
    async with await loop.create_server(lambda: Conversation(sink), "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await over.wait()
    return sink.emails


if __name__ == "__main__":
    with ExitStack() as files:
        named = [files.enter_context(Path(name).open("w", buffering=1)) for name in sys.argv[1:2]]
        print(asyncio.run(serve(named[0] if named else None)))
