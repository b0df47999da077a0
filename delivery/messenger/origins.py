"""Allowed origins: the messenger runs on the websites that staff registered and on this server (behaviour 4.14)."""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from corsheaders.middleware import CorsMiddleware
from django.core.cache import cache

from audiences.models import Workspace

# Each request of a browser needs the origins. A change by staff takes effect after this many seconds.
CACHE_TIMEOUT = 10
CACHE_KEY = "messenger-origins"
MAX_HOST_LENGTH = 260
PORTS = {"https": 443, "http": 80}
HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")


class NotAnOrigin(ValueError):
    """The text is not a valid origin. The message says why, and what to enter."""


def parse_origin(typed: str) -> str:
    """Return the origin in the form that browsers send: scheme, host, and the port unless it is the default."""
    typed = typed.strip()
    if not typed:
        raise NotAnOrigin("Enter the website's address, for example https://www.example.com.")
    if "*" in typed:
        raise NotAnOrigin("Wildcards are not supported. Add each website separately.")
    try:
        parts = urlsplit(typed)
        port = parts.port
    except ValueError as wrong:
        raise NotAnOrigin("Enter a valid URL, for example https://www.example.com.") from wrong
    if parts.scheme not in PORTS or not typed.lower().startswith(f"{parts.scheme}://"):
        raise NotAnOrigin("The address must begin with https:// (or http:// for a test).")
    if parts.username is not None or parts.password is not None:
        raise NotAnOrigin("Remove the user name and password from the address.")
    host = host_of(parts.hostname or "")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise NotAnOrigin(f"Remove the path: enter {parts.scheme}://{host}.")
    return f"{parts.scheme}://{host}" + ("" if port in (None, PORTS[parts.scheme]) else f":{port}")


def host_of(name: str) -> str:
    """Return a host name in the form that browsers send: lower case, non-ASCII letters in Punycode."""
    try:
        return f"[{ip_address(name)}]" if ":" in name else str(ip_address(name))
    except ValueError:
        pass
    try:
        found = name.encode("idna").decode().lower()
    except UnicodeError:
        found = ""
    if len(found) > MAX_HOST_LENGTH or not HOST.fullmatch(found):
        raise NotAnOrigin(
            f"“{name}” is not a valid host name." if name else "Enter a host, for example https://www.example.com."
        )
    return found


def clear_origins_cache() -> None:
    """Make this process load the origins again. The other processes do so within CACHE_TIMEOUT."""
    cache.delete(CACHE_KEY)


def is_registered(origin: str) -> bool:
    allowed = cache.get(CACHE_KEY)
    if allowed is None:
        allowed = {str(entry).strip().rstrip("/").lower() for entry in Workspace.current().allowed_origins}
        cache.set(CACHE_KEY, allowed, timeout=CACHE_TIMEOUT)
    return origin.lower() in allowed


def is_allowed(origin: str | None, *, host: str) -> bool:
    """Return whether the request is from a page of this server (at `host`), a registered website, or not a browser."""
    return origin is None or origin.partition("://")[2] == host or is_registered(origin)


class MessengerCors(CorsMiddleware):
    """CORS headers for the messenger only, for the origins in the database."""

    def origin_found_in_white_lists(self, origin: str, url: SplitResult) -> bool:
        """Return whether this website may read the answer."""
        return is_registered(origin)
