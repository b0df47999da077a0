"""What all addresses of the messenger share: registered websites only, a limit, and whom the browser speaks for."""

import hashlib
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.core.exceptions import SuspiciousOperation
from django.utils import timezone
from rest_framework import status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from audiences import identity_verification
from audiences.api.base.endpoint import Endpoint
from audiences.api.base.errors import Forbidden, TooLarge
from audiences.intake import Refused, Source
from audiences.intake.attributes.fields import text
from audiences.models import Customer, Workspace
from delivery.conversations import attachments
from delivery.messenger import origins, sessions
from delivery.messenger.sessions import Speaker
from delivery.models import Refusal, RefusedVisitors

WINDOW = 10
# An office may hold many visitors behind one address.
VISITORS_PER_ADDRESS = 10
LARGEST_FORM = attachments.MOST * attachments.LARGEST + 2**20
# Refused visitors are told apart by one of so many keys in the cache, which bounds what anybody can fill it with.
REFUSED_PLACES = 2**14
REFUSED_KEPT = 86_400


class SessionOver(APIException):
    """The token speaks for nobody, or no longer; the messenger then pings again."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_detail = "This session is over. Ping again."


class VisitorRateLimit(BaseThrottle):
    """So many requests per visitor in each window, and ten times as many per address."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count this one by its address, and by its token there: nobody uses up what is another's."""
        if not settings.MESSENGER_RATE_LIMIT:
            return True
        self.now = int(timezone.now().timestamp())
        limit = -(-settings.MESSENGER_RATE_LIMIT * WINDOW // 60)
        address = self.get_ident(request)
        token = bearer(request)
        return self.is_within(address, VISITORS_PER_ADDRESS * limit) and (
            not token or self.is_within(f"{address} {hashlib.sha256(token.encode()).hexdigest()}", limit)
        )

    def is_within(self, who: str, limit: int) -> bool:
        """Whether there are no more than this many in the window."""
        key = f"messenger-rate-{self.now // WINDOW}-{who}".replace(" ", "-")
        cache.add(key, 0, timeout=2 * WINDOW)
        try:
            return (cache.incr(key) or 1) <= limit  # None while Redis is away.
        except ValueError:  # Dropped by the cache in between.
            return True

    def wait(self) -> float | None:
        """Return the seconds until the next window."""
        return WINDOW - self.now % WINDOW


class Form(MultiPartParser):
    """What was written together with images, or a 400 that says what it is instead."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """Read the form, unless it is larger than any there is."""
        length = (parser_context or {})["request"].META.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal() or int(length) > LARGEST_FORM:
            raise TooLarge
        try:
            return super().parse(stream, media_type, parser_context)
        except SuspiciousOperation as wrong:
            raise ParseError("The form holds too much.") from wrong


class MessengerEndpoint(Endpoint):
    """An address of the messenger: open to browsers on registered websites, which say whom they speak for."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    throttle_classes = [VisitorRateLimit]

    def check_request(self, request: Request) -> None:
        """Take what pages say: their settings may have any keys, and no version is asked for."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Turn away websites that are not registered: their pages could not read the answer, but would have asked."""
        super().initial(request, *args, **kwargs)
        if not origins.may_ask(request.headers.get("Origin"), host=request.get_host()):
            raise Forbidden("The messenger may not run on this website. Register its origin in Outbound's settings.")


def bearer(request: Request) -> str:
    """The token sent along, or nothing."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def speaker(request: Request) -> Speaker:
    """Whom the browser speaks for by the token its ping was given; a 401 where that is over."""
    secret, _ = Workspace.identity()
    found = sessions.speaker_of(bearer(request), secret=secret, at=timezone.now())
    if found is None:
        raise SessionOver
    return found


def customer_of(request: Request) -> Customer:
    """The customer the browser speaks for; a 401 where it is a visitor who has not written."""
    found = speaker(request).customer
    if found is None:
        raise SessionOver
    return found


class NotProved(Forbidden):
    """The browser does not prove whom it speaks for."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(REFUSALS[reason])
        self.reason = reason


REFUSALS: dict[Refusal, str] = {
    Refusal.NOT_SIGNED: "The user_hash is missing or is not that of this user.",
    Refusal.ADDRESS_FORM: (
        "A user_hash proves an email address only if it is written in lower case, without spaces around it."
        " Send and sign it so."
    ),
    Refusal.USER_ID_FORM: (
        "A user_hash proves a user_id only as a text without spaces around it, or as a whole number."
        " Send and sign it so."
    ),
}


class Proof:
    """That a browser speaks for whom it names: the hash that only the customer's own server can make.

    It counts only for the user_id, or else the email, as it is written. If reading it makes another one of it (as lower
    case makes of a Kelvin sign a k), it is refused.
    """

    def __init__(self, sent: dict[str, Any], settings: dict[str, Any], given: dict[str, Any]) -> None:
        self.name = "user_id" if given["user_id"] not in (None, "") else "email"
        self.written = given[self.name]
        self.is_offered = "user_hash" in {**sent, **settings}
        self.user_hash = settings.get("user_hash", sent.get("user_hash"))
        # What it was made with.
        self.secret = ""

    @property
    def source(self) -> Source:
        """Who says what this page says, if the proof holds: only a hash that was given proves anything."""
        return Source.PROVED_BROWSER if self.is_offered else Source.BROWSER

    def holds(self, verification: tuple[str, bool]) -> bool:
        """Whether it does with this secret, if it has to."""
        self.secret, is_required = verification
        if not (is_required or self.is_offered):
            return True
        return self.is_as_read and identity_verification.is_signed(self.secret, str(self.written), given=self.user_hash)

    def check(self) -> None:
        """Forbid claiming to be somebody without it, by the secret as it is now."""
        if self.holds(Workspace.identity()):
            return
        form = Refusal.USER_ID_FORM if self.name == "user_id" else Refusal.ADDRESS_FORM
        raise NotProved(Refusal.NOT_SIGNED if self.is_as_read else form)

    @property
    def is_as_read(self) -> bool:
        """Whether the identity is written as it is when it is looked for."""
        try:
            read = text(self.written, self.name)
        except Refused:
            return True  # For intake to refuse, in its own words.
        # All that lower case changes, even where `read_email` would not take it.
        return str(self.written) == (read.lower() if self.name == "email" else read)

    def count_refusal(self, reason: Refusal, *, address: str, at: datetime) -> None:
        """Count a visitor who was refused, once a day each, however often their browser asks again."""
        day = timezone.localtime(at, Workspace.current().tz).date()
        visitor = hashlib.sha256(f"{address} {reason} {self.written}".encode(errors="replace")).digest()
        place = int.from_bytes(visitor[:4]) % REFUSED_PLACES
        if cache.add(f"messenger-refused-{day}-{place}", 1, timeout=REFUSED_KEPT):
            RefusedVisitors.add(day, reason)
