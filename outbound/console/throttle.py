"""How often one may try: counted in the cache, one for each web process unless CACHES names one for all."""

import ipaddress
from datetime import datetime

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest

WINDOW = 15 * 60


def tries(what: str, who: str, *, at: datetime) -> int:
    """How often this was tried in the quarter of an hour this is."""
    return int(cache.get(key(what, who, at=at), 0))


def tried(what: str, who: str, *, at: datetime) -> int:
    """Count one more, and return how many there were with it."""
    name = key(what, who, at=at)
    cache.add(name, 0, timeout=2 * WINDOW)
    try:
        return int(cache.incr(name) or 1)  # None while Redis is away.
    except ValueError:  # Dropped by the cache in between.
        return 1


def key(what: str, who: str, *, at: datetime) -> str:
    """Where it is counted; what somebody typed may be no name for a key."""
    return f"tried-{what}-{int(at.timestamp()) // WINDOW}-{who.lower().encode().hex()[:150]}"


def address_of(request: HttpRequest) -> str:
    """Return the network address of who asks; behind a proxy, the one the proxy names."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "") if settings.BEHIND_PROXY else ""
    return forwarded.rpartition(",")[2].strip() or request.META.get("REMOTE_ADDR", "")


def network_address(request: HttpRequest) -> str | None:
    """The same as an address and nothing else; None over a socket, or where a proxy names what is none."""
    try:
        return str(ipaddress.ip_address(address_of(request)))
    except ValueError:
        return None
