"""A mail server that counts accepted emails and fails on demand."""

import asyncio
import random
import re
import threading
import time
from collections import Counter

END_OF_TEXT = b"\r\n.\r\n"
MESSAGE_ID = re.compile(rb"^message-id:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
REPLIES = {
    b"EHLO": b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}
OK = b"250 ok\r\n"


class FaultySink:
    """The server, in its own thread. `fault` names the failure of one email in three; "" for none."""

    FAULTS = {
        "busy": "mail server says 451 (try later)",
        "refuses": "mail server says 550 (never)",
        "refuses the text": "mail server says 452 to the text",
        "drops": "mail server hangs up after the text",
        "hangs": "mail server does not answer the text",
    }
    TIMES = 3
    ANSWERS = {"busy": b"451 4.7.1 Greylisted\r\n", "refuses": b"550 5.1.1 No such user\r\n"}

    def __init__(self, *, seed: int, host: str = "127.0.0.1", delay: float = 0) -> None:
        """Listen on an address of this machine; each text is answered after so many seconds."""
        self.delay = delay
        self.random = random.Random(seed)
        self.fault = ""
        self.taken = 0
        self.message_ids: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        # When each email was accepted, by `time.monotonic`, and from which address.
        self.accepted: list[tuple[float, str]] = []
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(
            self.loop.create_server(lambda: Conversation(self), host=host, port=0)
        )
        self.port: int = self.server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def choose_fault(self, *faults: str) -> str:
        """Return the fault of this email; "" if it has none of these."""
        fault = self.fault
        if fault not in faults or self.random.random() > 1 / 3:
            return ""
        self.faults[fault] += 1
        return fault

    def count_email(self, text: bytes, sender: str) -> None:
        self.accepted.append((time.monotonic(), sender))
        found = MESSAGE_ID.search(text)
        self.message_ids[found[1].decode() if found else "none"] += 1
        self.taken += 1

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)


class Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, sink: FaultySink) -> None:
        self.sink = sink
        self.received = b""
        self.in_text = self.is_refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self.received += data
        while True:
            line, end, rest = self.received.partition(END_OF_TEXT if self.in_text else b"\r\n")
            if not end or self.transport.is_closing():
                return
            self.received = rest
            if self.in_text:
                self.in_text = False
                self.answer_text(line)
            else:
                self.answer_line(line[:4].upper())

    def answer_line(self, verb: bytes) -> None:
        if verb == b"MAIL":
            self.is_refused = False
        if verb == b"RCPT" and (fault := self.sink.choose_fault("busy", "refuses")):
            self.is_refused = True
            self.transport.write(FaultySink.ANSWERS[fault])
        elif verb == b"DATA" and self.is_refused:
            self.transport.write(b"503 5.5.1 No recipients\r\n")
        else:
            self.in_text = verb == b"DATA"
            self.transport.write(REPLIES.get(verb, OK))

    def answer_text(self, text: bytes) -> None:
        fault = self.sink.choose_fault("refuses the text", "drops", "hangs")
        if fault == "refuses the text":
            self.transport.write(b"452 4.3.1 Out of room\r\n")
            return
        # Half of the emails without an answer were accepted.
        if not fault or self.sink.random.random() < 0.5:
            self.sink.count_email(text, self.transport.get_extra_info("peername")[0])
        if fault == "drops":
            self.transport.abort()
        elif not fault and self.sink.delay:
            self.sink.loop.call_later(self.sink.delay, self.transport.write, OK)
        elif not fault:
            self.transport.write(OK)
