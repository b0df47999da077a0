"""Requests to untrusted URLs: only to public addresses and with a deadline."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from delivery.webhooks import safe_http
from delivery.webhooks.safe_http import NotAllowed, Unreachable


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.1", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::10.0.0.1",
     "ff02::1", "192.88.99.1", "3fff::1", "fec0::1", "5f00::1", "192.0.0.8", "::127.0.0.1", "64:ff9b::192.88.99.1"],
)  # fmt: skip
def test_address_of_a_private_network_is_not_public(address):
    assert not safe_http.is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_address_of_the_internet_is_public(address):
    assert safe_http.is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    ["", "hooks", "ftp://x.example/", "file:///etc/passwd", "http://", "http://user:pass@x.example/", "http://[::1",
     "http://x.example:99999/", "http://x.example:0/", "http://x.example/a b", "http://x.example/\r\nX: y",
     "http://127.0.0.1/", "http://[::1]:8000/", "https://10.0.0.7/hook"],
)  # fmt: skip
def test_invalid_url_is_refused_before_dns(url):
    with pytest.raises(NotAllowed):
        safe_http.check_url(url)


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "017700000001"])
def test_host_of_this_machine_is_refused(host):
    with pytest.raises(NotAllowed, match="private network"):
        safe_http.post(f"http://{host}:8000/", b"{}", headers={})


def test_unknown_host_is_unreachable():
    with pytest.raises(Unreachable, match="cannot be resolved"):
        safe_http.post("https://hooks.invalid/", b"{}", headers={})


@pytest.fixture
def short_deadline(settings, monkeypatch) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(safe_http, "REQUEST_TIMEOUT", 0.5)


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that gives this answer to its first client until the client has left. Yields its port."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def drip(connection: socket.socket) -> None:
    """Send a byte so often that no single read reaches its timeout."""
    while True:
        connection.sendall(b"H")
        threading.Event().wait(0.05)


@pytest.fixture
def certificate(tmp_path) -> Path:
    """A certificate of 127.0.0.1 and its key, in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "certificate.pem"
    path.write_bytes(signed.public_bytes(pem) + private)
    return path


@pytest.fixture
def tls_server(certificate, monkeypatch) -> ssl.SSLContext:
    """The context of a server whose certificate the requests of this test trust."""
    monkeypatch.setattr(safe_http, "tls_context", lambda: ssl.create_default_context(cafile=str(certificate)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_slow_answer_is_aborted(short_deadline):
    with server(drip) as port, pytest.raises(Unreachable, match=r"did not answer within 0\.5 seconds"):
        safe_http.post(f"http://127.0.0.1:{port}/", b"{}", headers={})


def test_slow_answer_over_tls_is_aborted(short_deadline, tls_server):
    def answer(connection: socket.socket) -> None:
        with tls_server.wrap_socket(connection, server_side=True) as encrypted:
            requests.append(encrypted.recv(100))
            drip(encrypted)

    requests: list[bytes] = []
    with server(answer) as port, pytest.raises(Unreachable, match=r"did not answer within 0\.5 seconds"):
        safe_http.post(f"https://127.0.0.1:{port}/", b"{}", headers={})

    assert requests[0].startswith(b"POST / HTTP/1.1")


def test_handshake_that_does_not_end_is_aborted(short_deadline):
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"\x16\x03\x03\x40\x00")  # A record of the handshake with 16 KB, which follow slowly.
        drip(connection)

    with server(answer) as port, pytest.raises(Unreachable, match=r"did not answer within 0\.5 seconds"):
        safe_http.post(f"https://127.0.0.1:{port}/", b"{}", headers={})


def test_silent_name_server_is_given_up(short_deadline, monkeypatch):
    answered = threading.Event()

    def getaddrinfo(*_args: object, **_more: object) -> list:
        answered.wait(60)
        return []

    monkeypatch.setattr(safe_http, "DNS_TIMEOUT", 0.1)
    monkeypatch.setattr(safe_http.socket, "getaddrinfo", getaddrinfo)
    try:
        with pytest.raises(Unreachable, match="name server did not answer"):
            safe_http.post("https://hooks.example/", b"{}", headers={})
    finally:
        answered.set()


def test_time_of_the_dns_lookup_counts(short_deadline, monkeypatch):
    look_up = socket.getaddrinfo

    def getaddrinfo(*args: object, **more: object) -> object:
        aborted.wait(20)
        return look_up(*args, **more)

    class Connection(safe_http.Connection):
        def abort(self) -> None:
            super().abort()
            aborted.set()

    aborted = threading.Event()
    monkeypatch.setattr(safe_http, "DNS_TIMEOUT", 60)
    monkeypatch.setattr(safe_http, "Connection", Connection)
    monkeypatch.setattr(safe_http.socket, "getaddrinfo", getaddrinfo)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unreachable, match="did not answer within"):
        safe_http.post(f"http://127.0.0.1:{silent.getsockname()[1]}/", b"{}", headers={})


def test_request_over_tls_checks_the_certificate(settings, tls_server, monkeypatch):
    def answer(connection: socket.socket) -> None:
        with tls_server.wrap_socket(connection, server_side=True) as encrypted:
            request = b""
            while not request.endswith(b"{}"):
                request += encrypted.recv(1000)
            encrypted.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    with server(answer) as port:
        assert safe_http.post(f"https://127.0.0.1:{port}/", b"{}", headers={}) == 204

    monkeypatch.setattr(safe_http, "tls_context", ssl.create_default_context)
    with server(answer) as port, pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        safe_http.post(f"https://127.0.0.1:{port}/", b"{}", headers={})


def test_certificates_of_the_authorities_are_read_once():
    assert safe_http.tls_context() is safe_http.tls_context()
