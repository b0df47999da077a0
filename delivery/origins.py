"""The websites the messenger may run on: those staff registered, and this server itself (DESIGN 4.14)."""

from urllib.parse import SplitResult

from corsheaders.middleware import CorsMiddleware
from django.core.cache import cache

from audiences.models import Workspace

# Asked with every request of every browser; a change by staff is felt this many seconds later.
KEPT_FOR = 10
KEY = "messenger-origins"


def is_registered(origin: str) -> bool:
    """Whether staff have let the messenger run on this website."""
    allowed = cache.get(KEY)
    if allowed is None:
        allowed = {str(entry).strip().rstrip("/").lower() for entry in Workspace.current().allowed_origins}
        cache.set(KEY, allowed, timeout=KEPT_FOR)
    return origin.lower() in allowed


def may_ask(origin: str | None, *, host: str) -> bool:
    """Whether what asks is no browser, a page of this server (at `host`), or a page of a registered website."""
    return origin is None or origin.partition("://")[2] == host or is_registered(origin)


class MessengerCors(CorsMiddleware):
    """Cross-origin answers for the messenger alone, to the websites the database names."""

    def origin_found_in_white_lists(self, origin: str, url: SplitResult) -> bool:
        """Whether this website may read the answer."""
        return is_registered(origin)
