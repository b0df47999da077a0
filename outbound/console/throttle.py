"""A counter of attempts in the cache. It counts per web process unless CACHES names a shared cache."""

import ipaddress
from datetime import datetime

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest

WINDOW = 15 * 60


def count_attempt(what: str, who: str, *, at: datetime) -> int:
    """Count one attempt and return the total of the current 15-minute window."""
    name = cache_key(what, who, at=at)
    cache.add(name, 0, timeout=2 * WINDOW)
    try:
        return int(cache.incr(name) or 1)  # None while Redis is away.
    except ValueError:  # The cache dropped the key in between.
        return 1


def cache_key(what: str, who: str, *, at: datetime) -> str:
    """Return the cache key. The user's input is hex-encoded, because it may contain characters that keys may not."""
    return f"tried-{what}-{int(at.timestamp()) // WINDOW}-{who.lower().encode().hex()[:150]}"


def address_of(request: HttpRequest) -> str:
    """Return the client's network address; behind a proxy, the one that the proxy reports."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "") if settings.BEHIND_PROXY else ""
    return forwarded.rpartition(",")[2].strip() or request.META.get("REMOTE_ADDR", "")


def network_address(request: HttpRequest) -> str | None:
    """Return the address if it is a valid IP address; otherwise, for example over a socket, None."""
    try:
        return str(ipaddress.ip_address(address_of(request)))
    except ValueError:
        return None
