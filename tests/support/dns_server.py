"""A DNS server on real sockets of this machine, over UDP and TCP, with the records of a test."""

import base64
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

TTL = 60


@dataclass
class DnsServer:
    """Answers with `records`, by (name, type); without an answer for names in `silent`, or for all with "*"."""

    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # The same port number for both.
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        for serve in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()

    def publish(self, name: str, kind: str, *values: str) -> None:
        self.records[name, kind] = list(values)

    def remove(self, name: str, kind: str) -> None:
        del self.records[name, kind]

    def serve_udp(self) -> None:
        while True:
            try:
                packet, client = self.udp.recvfrom(65_535)
                self.answer(packet, lambda answer, to=client: self.udp.sendto(answer, to), limit=512)
            except OSError:
                return

    def serve_tcp(self) -> None:
        while True:
            try:
                client, _ = self.tcp.accept()
            except OSError:
                return
            with client, client.makefile("rb") as stream:
                (length,) = struct.unpack("!H", stream.read(2))
                self.answer(
                    stream.read(length), lambda answer, to=client: to.sendall(struct.pack("!H", len(answer)) + answer)
                )

    def answer(self, packet: bytes, send: Callable[[bytes], object], *, limit: int | None = None) -> None:
        query = dns.message.from_wire(packet)
        (question,) = query.question
        name, kind = question.name.to_text().rstrip(".").lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if self.silent & {name, "*"}:
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        values = self.records.get((name, kind), [])
        if values:
            response.answer.append(dns.rrset.from_text(question.name, TTL, "IN", kind, *values))
        elif not any(known == name or known.endswith(f".{name}") for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        wire = response.to_wire()
        if limit and len(wire) > limit:
            response.flags |= dns.flags.TC
            response.answer.clear()
            wire = response.to_wire()
        send(wire)


def quote_text(text: str) -> str:
    """Return a TXT value in quoted strings of at most 200 characters."""
    return " ".join(f'"{text[start : start + 200]}"' for start in range(0, len(text), 200))


def publish_domain(server: DnsServer, domain: str, *, selector: str) -> None:
    """Publish everything that a domain needs, with a mail server at smtp.<domain>."""
    key = rsa.generate_private_key(65_537, 2048).public_key()
    encoded = base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
    server.publish(domain, "MX", f"10 mx.{domain}.")
    server.publish(domain, "A", "9.9.9.9")
    server.publish(domain, "TXT", quote_text(f"v=spf1 a:smtp.{domain} -all"))
    server.publish(f"mx.{domain}", "A", "9.9.9.9")
    server.publish(f"smtp.{domain}", "A", "9.9.9.10")
    server.publish("10.9.9.9.in-addr.arpa", "PTR", f"smtp.{domain}.")
    server.publish(f"{selector}._domainkey.{domain}", "TXT", quote_text(f"v=DKIM1; k=rsa; p={encoded}"))
    server.publish(f"_dmarc.{domain}", "TXT", quote_text(f"v=DMARC1; p=reject; rua=mailto:dmarc@{domain}"))


@contextmanager
def serving_domain(domain: str, *, selector: str, settings: Any) -> Iterator[DnsServer]:
    """Let domain checks ask a server that has everything that the domain needs, and send through its mail server."""
    server = DnsServer()
    publish_domain(server, domain, selector=selector)
    settings.DNS_SERVER = server.address
    settings.EMAIL_BACKEND = "delivery.channels.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_USE_TLS, settings.EMAIL_USE_SSL = f"smtp.{domain}", True, False
    settings.BOUNCE_DOMAIN = ""
    try:
        yield server
    finally:
        server.close()
