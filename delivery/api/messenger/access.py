"""Access to the messenger's endpoints: registered websites, rate limit, and the customer a browser speaks for."""

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
from audiences.intake.attributes.fields import read_text
from audiences.models import Customer, Workspace
from delivery.conversations import attachments
from delivery.messenger import origins, sessions
from delivery.messenger.sessions import Speaker
from delivery.models import Refusal, RefusedVisitors

RATE_LIMIT_WINDOW = 10
# Many visitors of one office may share an IP address.
VISITORS_PER_IP_ADDRESS = 10
# Each address that a visitor gives may send a confirmation email to a stranger.
ADDRESSES_PER_DAY = 50
MAX_FORM_SIZE = attachments.MAX_IMAGES * attachments.MAX_IMAGE_BYTES + 2**20
# Refused visitors are counted by this many cache keys at most, so that no one can fill the cache.
REFUSED_VISITOR_SLOTS = 2**14
REFUSED_VISITOR_TIMEOUT = 86_400


class SessionExpired(APIException):
    """The token is invalid or has expired; the messenger then pings again."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_detail = "The session has expired. Send a ping to begin a new one."


class VisitorRateLimit(BaseThrottle):
    """A limit of requests per visitor and window, and ten times as many per IP address."""

    window = RATE_LIMIT_WINDOW

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count the request by IP address, and by token at that address, so that no visitor uses up another's limit."""
        if not settings.MESSENGER_RATE_LIMIT:
            return True
        self.now = int(timezone.now().timestamp())
        limit = -(-settings.MESSENGER_RATE_LIMIT * RATE_LIMIT_WINDOW // 60)
        address = self.get_ident(request)
        token = bearer_token(request)
        return self.is_within(address, VISITORS_PER_IP_ADDRESS * limit) and (
            not token or self.is_within(f"{address} {hashlib.sha256(token.encode()).hexdigest()}", limit)
        )

    def is_within(self, who: str, limit: int) -> bool:
        key = f"messenger-rate-{self.now // self.window}-{who}".replace(" ", "-")
        cache.add(key, 0, timeout=2 * self.window)
        try:
            return (cache.incr(key) or 1) <= limit  # None while Redis is away.
        except ValueError:  # The key expired in between.
            return True

    def wait(self) -> float | None:
        """Return the seconds until the next window."""
        return self.window - self.now % self.window


class AddressRateLimit(VisitorRateLimit):
    """A limit of addresses per IP address and day, while an address gets a confirmation email."""

    window = 86_400

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count the request by IP address."""
        if not settings.MESSENGER_RATE_LIMIT or not Workspace.objects.filter(double_opt_in=True).exists():
            return True
        self.now = int(timezone.now().timestamp())
        return self.is_within(f"addresses {self.get_ident(request)}", ADDRESSES_PER_DAY)


class MessengerForm(MultiPartParser):
    """A multipart form with a message and images. An invalid form is a 400."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """Parse the form; raise TooLarge if it is larger than a message with its images can be."""
        length = (parser_context or {})["request"].META.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal() or int(length) > MAX_FORM_SIZE:
            raise TooLarge
        try:
            return super().parse(stream, media_type, parser_context)
        except SuspiciousOperation as wrong:
            raise ParseError("The form has too many fields or too much data.") from wrong


class MessengerEndpoint(Endpoint):
    """Base class of the messenger's endpoints: open to browsers on registered websites, without an API token."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    throttle_classes = [VisitorRateLimit]

    def check_request(self, request: Request) -> None:
        """Accept any keys, as the settings of pages may have any, and no version."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse websites that are not registered: browsers hide the answer from them, but the request would count."""
        super().initial(request, *args, **kwargs)
        if not origins.is_allowed(request.headers.get("Origin"), host=request.get_host()):
            raise Forbidden(
                "The messenger is not allowed on this website. Add its origin on the page Integration of Outbound."
            )


def bearer_token(request: Request) -> str:
    """Return the bearer token of the request, or ""."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def speaker(request: Request) -> Speaker:
    """Return the speaker of the request's token; raise SessionExpired (401) if the token is invalid."""
    secret, _ = Workspace.identity_settings()
    found = sessions.speaker_of(bearer_token(request), secret=secret, at=timezone.now())
    if found is None:
        raise SessionExpired
    return found


def customer_of(request: Request) -> Customer:
    """Return the customer of the request's token; raise SessionExpired (401) for a visitor who has not written."""
    found = speaker(request).customer
    if found is None:
        raise SessionExpired
    return found


class NotProved(Forbidden):
    """The browser does not prove the identity it claims."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(REFUSALS[reason])
        self.reason = reason


REFUSALS: dict[Refusal, str] = {
    Refusal.NOT_SIGNED: "The user_hash is missing or does not match this user.",
    Refusal.ADDRESS_FORM: (
        "A user_hash is valid only for an email address in lower case, without surrounding spaces."
        " Send the address in this form, and sign the same text."
    ),
    Refusal.USER_ID_FORM: (
        "A user_hash is valid only for a user_id that is a string without surrounding spaces, or an integer."
        " Send the user_id in this form, and sign the same text."
    ),
}


class Proof:
    """The proof that a browser speaks for a user: the user_hash, which only the website's server can make.

    It counts for the user_id, or else for the email, exactly as written. An identity that parsing changes (lower case
    turns a Kelvin sign into k) is refused.
    """

    def __init__(self, sent: dict[str, Any], settings: dict[str, Any], given: dict[str, Any]) -> None:
        self.name = "user_id" if given["user_id"] not in (None, "") else "email"
        self.written = given[self.name]
        self.is_offered = "user_hash" in {**sent, **settings}
        self.user_hash = settings.get("user_hash", sent.get("user_hash"))
        # The identity secret that verified it.
        self.secret = ""

    @property
    def source(self) -> Source:
        """Return the source of the page's facts, once the proof is valid: only a given user_hash proves them."""
        return Source.PROVED_BROWSER if self.is_offered else Source.BROWSER

    def is_valid(self, verification: tuple[str, bool]) -> bool:
        """Return whether the proof is valid with this secret. A missing user_hash is valid if none is required."""
        self.secret, is_required = verification
        if not (is_required or self.is_offered):
            return True
        return self.is_as_read and identity_verification.is_signed(self.secret, str(self.written), given=self.user_hash)

    def check(self) -> None:
        """Raise NotProved if the proof is invalid with the current secret."""
        if self.is_valid(Workspace.identity_settings()):
            return
        form = Refusal.USER_ID_FORM if self.name == "user_id" else Refusal.ADDRESS_FORM
        raise NotProved(Refusal.NOT_SIGNED if self.is_as_read else form)

    @property
    def is_as_read(self) -> bool:
        """Return whether parsing leaves the identity unchanged."""
        try:
            read = read_text(self.written, self.name)
        except Refused:
            return True  # Intake refuses it with a better message.
        # Any text that lower case changes, even if `read_email` would refuse it.
        return str(self.written) == (read.lower() if self.name == "email" else read)

    def count_refusal(self, reason: Refusal, *, address: str, at: datetime) -> None:
        """Count a refused visitor, once per day and visitor."""
        day = timezone.localtime(at, Workspace.current().tz).date()
        visitor = hashlib.sha256(f"{address} {reason} {self.written}".encode(errors="replace")).digest()
        place = int.from_bytes(visitor[:4]) % REFUSED_VISITOR_SLOTS
        if cache.add(f"messenger-refused-{day}-{place}", 1, timeout=REFUSED_VISITOR_TIMEOUT):
            RefusedVisitors.add(day, reason)
