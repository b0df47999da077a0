"""The sessions of teammates: listed with their device, and ended from elsewhere."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from allauth.usersessions.models import UserSession
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.http import HttpRequest

from audiences.intake.user_agent import parse_browser, parse_os

# The address of requests over a socket, which have none.
UNKNOWN_ADDRESS = "0.0.0.0"  # noqa: S104 - a value, not an address to listen on
# Seconds between two notes of when a session was last seen.
SEEN_INTERVAL = 300


@dataclass(frozen=True, slots=True)
class ShownSession:
    """A session as its page shows it."""

    pk: int
    device: str
    address: str
    began_at: datetime
    seen_at: datetime
    is_current: bool


def note_session(request: HttpRequest) -> None:
    """List the session of a request, and note when and from which address it was last seen.

    Sessions of earlier versions are listed too, from their first request on.
    """
    key = request.session.session_key
    if key and cache.add(f"session-seen-{hashlib.sha256(key.encode()).hexdigest()}", 1, SEEN_INTERVAL):
        UserSession.objects.create_from_request(request)


def device_name(user_agent: str) -> str:
    """Return the browser and system: “Chrome on Linux”."""
    browser, system = parse_browser(user_agent)[0], parse_os(user_agent)
    return " on ".join(filter(None, (browser, system))) or "An unknown device"


def list_sessions(user: User, *, current: str | None) -> list[ShownSession]:
    """Return the open sessions of a teammate, the one last seen first. `current` is the key of the one in use."""
    found = sorted(UserSession.objects.purge_and_list(user), key=lambda row: row.last_seen_at, reverse=True)
    return [
        ShownSession(
            pk=row.pk,
            device=device_name(row.user_agent),
            address="" if row.ip == UNKNOWN_ADDRESS else row.ip,
            began_at=row.created_at,
            seen_at=row.last_seen_at,
            is_current=row.session_key == current,
        )
        for row in found
    ]


def end_session(user: User, pk: str) -> int:
    """End one session of a teammate; return 1, or 0 if they have no such session."""
    return end_rows(UserSession.objects.filter(user=user, pk=int(pk))) if pk.isdecimal() and len(pk) < 19 else 0


def end_sessions(user: User, *, at: datetime, but: str | None = None) -> int:
    """End every session of a teammate, but not the one with this key; return their number."""
    count = end_rows(UserSession.objects.filter(user=user).exclude(session_key=but or ""))
    # Also those that were not used since an earlier version, which kept no list.
    for row in Session.objects.filter(expire_date__gt=at).exclude(session_key=but or "").iterator():
        if row.get_decoded().get(SESSION_KEY) == str(user.pk):
            row.delete()
            count += 1
    return count


def end_rows(rows: Iterable[UserSession]) -> int:
    ended = [row.end() for row in rows]
    return len(ended)


def ended_text(count: int) -> str:
    return f"{count} session{'' if count == 1 else 's'}"
