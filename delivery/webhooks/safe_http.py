"""POSTs to addresses that others chose: never to a machine of our own network, never for longer than a moment.

The name is looked up once, what it leads to is checked, and that very address is connected to, so that no second
look-up can lead elsewhere. Redirects are not followed.
"""

import http.client
import re
import socket
import ssl
import threading
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

CONNECT_WITHIN, ANSWER_WITHIN = 5.0, 10.0
LONGEST_URL = 2000
NAT64 = IPv6Network("64:ff9b::/96")
# Ranges that some versions of Python call global: IETF protocol assignments, 6to4 relays, segment routing, site-local
# addresses, documentation.
NOT_PUBLIC = tuple(
    map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "5f00::/16", "fec0::/10", "3fff::/20", "2001:20::/28"))
)
PORTS = {"http": 80, "https": 443}
OF_THIS_MACHINE = re.compile(r"(.+\.)?localhost\.?")


class NotAllowed(ValueError):
    """An address that is none, or that nothing is sent to; the text says why."""


class Unreachable(Exception):
    """Nothing came back from the address; the text says why. It may another time."""


def check(url: str) -> SplitResult:
    """Return the parts of an address something may be sent to, as far as can be told without looking it up."""
    if len(url) > LONGEST_URL or any(ord(character) <= 32 or ord(character) > 126 for character in url):
        raise NotAllowed(f"The address must have at most {LONGEST_URL} plain characters and no space.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as wrong:
        raise NotAllowed("This is no web address.") from wrong
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise NotAllowed("The address must begin with https:// or http:// and name a host.")
    if parts.username is not None or parts.password is not None:
        raise NotAllowed("The address must hold no user name or password.")
    try:
        literal = ip_address("127.0.0.1" if OF_THIS_MACHINE.fullmatch(parts.hostname) else parts.hostname)
    except ValueError:
        return parts
    check_public(literal)
    return parts


def check_public(address: IPv4Address | IPv6Address) -> None:
    """Refuse an address of this machine or of a private network, unless the settings allow them."""
    if not settings.WEBHOOKS_TO_PRIVATE_ADDRESSES and not is_public(address):
        raise NotAllowed(f"{address} belongs to a private network, to which nothing is sent.")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of the open internet; one that carries another within is what that is."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner is None and address in NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner:
            return is_public(inner)
    if any(address in network for network in NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def look_up(host: str, port: int) -> str:
    """Return the address a name leads to, which something may be sent to."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as wrong:
        raise Unreachable(f"There is no {host}.") from wrong
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    for address in addresses:
        check_public(ip_address(address))
    return addresses[0]


class Connection(http.client.HTTPConnection):
    """A connection to the address that was checked, whatever the name says by now."""

    def __init__(self, parts: SplitResult, address: str) -> None:
        super().__init__(str(parts.hostname), parts.port or PORTS[parts.scheme], timeout=ANSWER_WITHIN)
        self.address = address
        self.is_secure = parts.scheme == "https"
        self.default_port = PORTS[parts.scheme]

    def connect(self) -> None:
        """Connect, and have the server prove its name where it is https."""
        self.sock = socket.create_connection((self.address, self.port), CONNECT_WITHIN)
        self.sock.settimeout(ANSWER_WITHIN)
        if self.is_secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def give_up(self) -> None:
        """End it, from another thread."""
        if self.sock is not None:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # It has ended by itself.


def post(url: str, body: bytes, *, headers: dict[str, str]) -> int:
    """POST, and return the status of the answer. NotAllowed or Unreachable where none came."""
    parts = check(url)
    host, port = str(parts.hostname), parts.port or PORTS[parts.scheme]
    connection = Connection(parts, look_up(host, port))
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    # A server that answers a byte at a time never runs into the socket's own time limit.
    patience = threading.Timer(CONNECT_WITHIN + ANSWER_WITHIN, connection.give_up)
    patience.start()
    try:
        connection.request("POST", path, body=body, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as wrong:
        raise Unreachable(str(wrong) or type(wrong).__name__) from wrong
    finally:
        patience.cancel()
        connection.close()
