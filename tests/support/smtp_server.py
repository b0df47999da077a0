"""A mail server on a real socket with scripted answers, which records the conversation."""

import socket
import ssl
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum


class Act(Enum):
    """Actions of a server instead of an answer."""

    DROP = "hangs up"
    HANG = "says nothing more"


Answer = str | Act

USUAL: dict[str, Answer] = {
    "greeting": "220 at your service",
    "EHLO": "250-scripted\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250 8BITMIME",
    "HELO": "250 scripted",
    "MAIL": "250 sender taken",
    "RCPT": "250 recipient taken",
    "DATA": "354 go on",
    "TEXT": "250 taken",
    "RSET": "250 forgotten",
    "STARTTLS": "220 go on in secret",
    "QUIT": "221 bye",
}
STARTTLS = "250-scripted\r\n250-PIPELINING\r\n250 STARTTLS"
PLAIN = "250-scripted\r\n250 8BITMIME"


@dataclass
class Taken:
    """An email that the server accepted."""

    sender: str
    recipients: list[str]
    content: bytes


@dataclass
class Server:
    """Answers each step with its next answer, repeating the last; steps without answers get the usual one."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    writes: list[bytes] = field(default_factory=list)
    connections: int = 0
    # With a certificate, the conversation is encrypted from the start, or from STARTTLS on if the server offers it.
    certificate: tuple[str, str] | None = None
    open: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.turns: dict[str, int] = defaultdict(int)
        self.over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self.listen, daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self.listener.close()

    def hang_up(self) -> None:
        """Close every connection, as a server does with idle ones."""
        for each in self.open:
            each.shutdown(socket.SHUT_RDWR)

    def listen(self) -> None:
        while True:
            try:
                client, _address = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.append(client)
            threading.Thread(target=self.talk, args=(client,), daemon=True).start()

    def talk(self, client: socket.socket) -> None:
        try:
            if self.certificate and "STARTTLS" not in str(self.answers.get("EHLO")):
                client = self.encrypted(client)
            self.converse(client)
        except (OSError, EOFError):
            return
        finally:
            client.close()

    def encrypted(self, client: socket.socket) -> socket.socket:
        assert self.certificate
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self.certificate)
        return context.wrap_socket(client, server_side=True)

    def converse(self, client: socket.socket) -> None:
        line = Line(client, self.writes)
        mail = Taken("", [], b"")
        if not self.say(client, "greeting"):
            return
        while True:
            heard = line.until(b"\r\n").decode()
            self.heard.append(heard)
            verb, _, rest = heard.partition(" ")
            verb = verb.upper()
            answer = self.say(client, verb)
            address = rest.partition(":")[2].partition(" ")[0].strip("<>")
            if answer.startswith("2"):
                mail = {"MAIL": Taken(address, [], b""), "RSET": Taken("", [], b"")}.get(verb, mail)
                mail.recipients += [address] if verb == "RCPT" else []
            if answer.startswith("354"):
                # The text is empty if the end is right at the start.
                line.waiting = b"\r\n" + line.waiting
                content = line.until(b"\r\n.\r\n") + b"\r\n"
                mail.content = content.removeprefix(b"\r\n").replace(b"\r\n..", b"\r\n.")
                if not (mail.sender and mail.recipients):
                    client.sendall(b"554 from nobody, or to nobody\r\n")
                else:
                    answer = self.say(client, "TEXT", mail)
            if verb == "STARTTLS" and answer.startswith("220"):
                client = self.encrypted(client)
                line = Line(client, self.writes)
            if not answer or verb == "QUIT":
                return

    def say(self, client: socket.socket, step: str, mail: Taken | None = None) -> str:
        """Answer a step and return the answer; "" if the conversation has ended."""
        told = self.answers.get(step) or [USUAL.get(step, "502 no such command")]
        answer = told[min(self.turns[step], len(told) - 1)]
        self.turns[step] += 1
        if answer is Act.HANG:
            self.over.wait(5)
        if isinstance(answer, Act):
            return ""
        if mail and answer.startswith("2"):
            self.taken.append(mail)
        client.sendall(f"{answer}\r\n".encode())
        # A server that says 421 hangs up.
        return "" if answer.startswith("421") else answer


class Line:
    """A line of the client."""

    def __init__(self, client: socket.socket, writes: list[bytes]) -> None:
        self.client, self.writes, self.waiting = client, writes, b""

    def until(self, mark: bytes) -> bytes:
        while mark not in self.waiting:
            chunk = self.client.recv(65536)
            if not chunk:
                raise EOFError
            self.writes.append(chunk)
            self.waiting += chunk
        found, _, self.waiting = self.waiting.partition(mark)
        return found
