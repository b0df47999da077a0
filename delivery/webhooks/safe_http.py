"""HTTP POST requests to untrusted URLs: never to a private network, and with a deadline for the whole request.

The host name is resolved once, the resulting address is checked, and the connection uses exactly that address, so that
a second DNS answer cannot lead elsewhere. Redirects are not followed.
"""

import http.client
import re
import socket
import ssl
import threading
from concurrent.futures import Future
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

# In seconds. The last one is for the whole request, from the DNS lookup to the status line.
DNS_TIMEOUT, CONNECT_TIMEOUT, RESPONSE_TIMEOUT, REQUEST_TIMEOUT = 5.0, 5.0, 10.0, 15.0
MAX_URL_LENGTH = 2000
NAT64 = IPv6Network("64:ff9b::/96")
# Ranges that some versions of Python call global: IETF protocol assignments, 6to4 relays, segment routing, site-local
# addresses, documentation.
NOT_PUBLIC = tuple(
    map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "5f00::/16", "fec0::/10", "3fff::/20", "2001:20::/28"))
)
PORTS = {"http": 80, "https": 443}
LOCALHOST = re.compile(r"(.+\.)?localhost\.?")


class NotAllowed(ValueError):
    """The URL is invalid or forbidden; the text says why."""


class Unreachable(Exception):
    """The server did not answer; the text says why. A later attempt may succeed."""


def check_url(url: str) -> SplitResult:
    """Return the parts of a URL that is allowed, as far as can be checked without DNS; else raise NotAllowed."""
    if len(url) > MAX_URL_LENGTH or any(ord(character) <= 32 or ord(character) > 126 for character in url):
        raise NotAllowed(f"The URL must have at most {MAX_URL_LENGTH} ASCII characters and no spaces.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as wrong:
        raise NotAllowed("Enter a valid URL.") from wrong
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise NotAllowed("The URL must begin with https:// or http:// and contain a host name.")
    if parts.username is not None or parts.password is not None:
        raise NotAllowed("The URL must not contain a user name or password.")
    try:
        literal = ip_address("127.0.0.1" if LOCALHOST.fullmatch(parts.hostname) else parts.hostname)
    except ValueError:
        return parts
    check_public(literal)
    return parts


def check_public(address: IPv4Address | IPv6Address) -> None:
    """Raise NotAllowed for an address of this machine or of a private network, unless the settings allow it."""
    if not settings.WEBHOOKS_TO_PRIVATE_ADDRESSES and not is_public(address):
        raise NotAllowed(f"{address} belongs to a private network. Use a public address.")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address is public; an IPv6 address that embeds an IPv4 address is judged by the latter."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner is None and address in NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner:
            return is_public(inner)
    if any(address in network for network in NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def resolve_host(host: str, port: int) -> str:
    """Return the first address of a host; raise NotAllowed if any of its addresses is private."""
    try:
        found = look_up_host(host, port).result(timeout=DNS_TIMEOUT)
    except TimeoutError as wrong:
        raise Unreachable(f"The name server did not answer for {host} within {DNS_TIMEOUT:g} seconds.") from wrong
    except (OSError, UnicodeError) as wrong:
        raise Unreachable(f"The host {host} cannot be resolved.") from wrong
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    for address in addresses:
        check_public(ip_address(address))
    return addresses[0]


def look_up_host(host: str, port: int) -> Future[list[Any]]:
    """Start a DNS lookup in a thread, because getaddrinfo has no timeout.

    The thread of a lookup that takes too long ends when the system's resolver gives up.
    """
    answer: Future[list[Any]] = Future()

    def look_up() -> None:
        try:
            answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as wrong:
            answer.set_exception(wrong)

    threading.Thread(target=look_up, name="webhook-dns", daemon=True).start()
    return answer


@cache
def tls_context() -> ssl.SSLContext:
    """Return the context of all requests. To read the certificates of all authorities for each would be slow."""
    return ssl.create_default_context()


class Connection(http.client.HTTPConnection):
    """A connection to an address that was checked, without another DNS lookup."""

    def __init__(self, parts: SplitResult) -> None:
        super().__init__(str(parts.hostname), parts.port or PORTS[parts.scheme], timeout=RESPONSE_TIMEOUT)
        self.is_secure = parts.scheme == "https"
        self.default_port = PORTS[parts.scheme]
        self.is_aborted = False

    def connect(self) -> None:
        """Resolve the host and connect; with https, verify the server's certificate for the host name."""
        address = resolve_host(self.host, self.port)
        self.use_socket(socket.create_connection((address, self.port), CONNECT_TIMEOUT))
        self.sock.settimeout(RESPONSE_TIMEOUT)
        if self.is_secure:
            # The handshake comes after the socket is known here, so that it can be aborted.
            encrypted = tls_context().wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.use_socket(encrypted)
            encrypted.do_handshake()

    def use_socket(self, sock: socket.socket) -> None:
        """Set the socket. An abort either finds it, or has set the flag before."""
        self.sock = sock
        if self.is_aborted:
            raise TimeoutError

    def abort(self) -> None:
        """Shut the connection down, from another thread. It can no longer be opened."""
        self.is_aborted = True
        if (sock := self.sock) is not None:
            try:
                # Not SSLSocket.shutdown, which removes the encryption while the other thread may be writing.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                return  # It is closed already.


def post(url: str, body: bytes, *, headers: dict[str, str]) -> int:
    """Send a POST request and return the status code; raise NotAllowed or Unreachable if there is no answer."""
    parts = check_url(url)
    connection = Connection(parts)
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    # A server that answers one byte at a time never reaches the socket's own timeout.
    deadline = threading.Timer(REQUEST_TIMEOUT, connection.abort)
    deadline.start()
    try:
        connection.request("POST", path, body=body, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as wrong:
        if connection.is_aborted:
            raise Unreachable(f"The server did not answer within {REQUEST_TIMEOUT:g} seconds.") from wrong
        raise Unreachable(str(wrong) or type(wrong).__name__) from wrong
    finally:
        deadline.cancel()
        connection.close()
