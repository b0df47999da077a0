"""The websites the messenger may run on: those staff registered, and this server itself (behaviour 4.14)."""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from corsheaders.middleware import CorsMiddleware
from django.core.cache import cache

from audiences.models import Workspace

# Asked with every request of every browser; a change by staff is felt this many seconds later.
CACHE_TIMEOUT = 10
CACHE_KEY = "messenger-origins"
MAX_HOST_LENGTH = 260
PORTS = {"https": 443, "http": 80}
HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")


class NotAnOrigin(ValueError):
    """What was typed is no website's origin; the text says why, and what to type."""


def parse_origin(typed: str) -> str:
    """Return an origin as browsers send it: scheme, host, and the port where it is not the usual one."""
    typed = typed.strip()
    if not typed:
        raise NotAnOrigin("Type the address of the website, like https://www.example.com.")
    if "*" in typed:
        raise NotAnOrigin("There are no wildcards: add each website by itself.")
    try:
        parts = urlsplit(typed)
        port = parts.port
    except ValueError as wrong:
        raise NotAnOrigin("This is no web address. Type it like https://www.example.com.") from wrong
    if parts.scheme not in PORTS or not typed.lower().startswith(f"{parts.scheme}://"):
        raise NotAnOrigin("The address begins with https:// (or, for a test, http://).")
    if parts.username is not None or parts.password is not None:
        raise NotAnOrigin("Leave out the user name and password.")
    host = host_of(parts.hostname or "")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise NotAnOrigin(f"Leave out what follows the host: {parts.scheme}://{host} is all of the website.")
    return f"{parts.scheme}://{host}" + ("" if port in (None, PORTS[parts.scheme]) else f":{port}")


def host_of(name: str) -> str:
    """A host's name as browsers send it: in lower case, and its letters beyond English in Punycode."""
    try:
        return f"[{ip_address(name)}]" if ":" in name else str(ip_address(name))
    except ValueError:
        pass
    try:
        found = name.encode("idna").decode().lower()
    except UnicodeError:
        found = ""
    if len(found) > MAX_HOST_LENGTH or not HOST.fullmatch(found):
        raise NotAnOrigin(f"“{name}” is no host’s name." if name else "Name a host, like https://www.example.com.")
    return found


def clear_origins_cache() -> None:
    """Have this process ask again which websites are registered; the others do within seconds."""
    cache.delete(CACHE_KEY)


def is_registered(origin: str) -> bool:
    """Whether staff have let the messenger run on this website."""
    allowed = cache.get(CACHE_KEY)
    if allowed is None:
        allowed = {str(entry).strip().rstrip("/").lower() for entry in Workspace.current().allowed_origins}
        cache.set(CACHE_KEY, allowed, timeout=CACHE_TIMEOUT)
    return origin.lower() in allowed


def is_allowed(origin: str | None, *, host: str) -> bool:
    """Whether what asks is no browser, a page of this server (at `host`), or a page of a registered website."""
    return origin is None or origin.partition("://")[2] == host or is_registered(origin)


class MessengerCors(CorsMiddleware):
    """Cross-origin answers for the messenger alone, to the websites the database names."""

    def origin_found_in_white_lists(self, origin: str, url: SplitResult) -> bool:
        """Whether this website may read the answer."""
        return is_registered(origin)
