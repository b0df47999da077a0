"""Webhooks of email service providers; django-anymail authenticates them and normalises their formats.

A malformed body is answered with status 400. An error here is answered with status 500, so the provider posts the event
again.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import Any

from anymail import urls
from anymail.exceptions import AnymailAPIError, AnymailConfigurationError
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent, EventType, RejectReason, inbound, tracking
from anymail.utils import get_request_basic_auth
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.uploadedfile import SimpleUploadedFile, UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.http.multipartparser import FIELD, FILE, ChunkIter, LazyStream, Parser
from django.urls import URLPattern
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.datastructures import MultiValueDict

from delivery.channels.bounce_rules import mailbox_verdict
from delivery.channels.esp import COPY
from delivery.inbound import charsets, feedback, router
from delivery.inbound.feedback import Feedback, FeedbackType
from delivery.inbound.message import InboundEmail, clean_text, extract_addresses

log = logging.getLogger(__name__)

MAX_DETAIL_LENGTH = 500
BINARY_TYPE = "application/octet-stream"
# A provider posts a whole email at once, with its attachments.
MAX_REQUEST_BYTES = 50 * 2**20
MALFORMED = "The body of this request is not in the format of this provider."
View = Callable[..., HttpResponseBase]

# Events that say nothing about an email (a subscription, an unknown event) are missing.
FEEDBACK_OF_EVENT: dict[str, FeedbackType] = {
    EventType.QUEUED: FeedbackType.ACCEPTED,
    EventType.SENT: FeedbackType.ACCEPTED,
    EventType.DEFERRED: FeedbackType.ACCEPTED,
    EventType.DELIVERED: FeedbackType.ACCEPTED,
    EventType.AUTORESPONDED: FeedbackType.ACCEPTED,
    EventType.OPENED: FeedbackType.ACCEPTED,
    EventType.CLICKED: FeedbackType.ACCEPTED,
    EventType.BOUNCED: FeedbackType.BOUNCED,
    EventType.REJECTED: FeedbackType.REFUSED,
    EventType.FAILED: FeedbackType.REFUSED,
    EventType.COMPLAINED: FeedbackType.COMPLAINED,
    EventType.UNSUBSCRIBED: FeedbackType.UNSUBSCRIBED,
}
# Reasons that a provider gives for not sending to an address: this email never reached the mailbox.
FEEDBACK_OF_REJECTION: dict[str, FeedbackType] = {
    RejectReason.INVALID: FeedbackType.REFUSED_NO_MAILBOX,
    RejectReason.BOUNCED: FeedbackType.REFUSED_NO_MAILBOX,
    RejectReason.SPAM: FeedbackType.COMPLAINED,
    RejectReason.UNSUBSCRIBED: FeedbackType.UNSUBSCRIBED,
}
TEMPORARY_REASONS = {RejectReason.TIMED_OUT, RejectReason.BLOCKED, RejectReason.SPAM, RejectReason.OTHER}


def nested_value(event: Any, *keys: str) -> Any:
    """Return a nested value of a provider's own event; None if it is missing."""
    for key in keys:
        event = event.get(key) if isinstance(event, Mapping) else None
    return event


SPARKPOST_CLASSES: dict[str, bool | None] = {"10": True, "30": True, "1": None, "40": None} | dict.fromkeys(
    ("20", "21", "22", "23", "24", "25", "50", "51", "52", "53", "54", "70"), False
)
MAILJET_SOFT = {"quota exceeded", "relay/access denied", "greylisted"}
UNISENDER_GO_HARD = {"err_user_unknown", "err_user_inactive", "err_mailbox_discarded", "err_domain_inactive"}

# How each provider marks a hard bounce; None if the event does not say.
HARD_BOUNCE_TESTS: dict[str, Callable[[Any], bool | None]] = {
    "Amazon SES": lambda event: nested_value(event, "bounce", "bounceType") == "Permanent",
    "Brevo": lambda event: nested_value(event, "event") == "hard_bounce",
    "MailerSend": lambda event: nested_value(event, "data", "type") == "hard_bounced",
    "Mailjet": lambda event: (
        bool(nested_value(event, "hard_bounce")) and nested_value(event, "error") not in MAILJET_SOFT
    ),
    "Mandrill": lambda event: nested_value(event, "event") == "hard_bounce",
    "Postmark": lambda event: nested_value(event, "Type") == "HardBounce",
    "Resend": lambda event: (kind := nested_value(event, "data", "bounce", "type")) and kind == "Permanent",
    "SendGrid": lambda event: False if nested_value(event, "type") == "blocked" else None,
    # Invalid recipient, no recipient; unclear (1, 40); soft, DNS, full, too large, transient.
    "SparkPost": lambda event: SPARKPOST_CLASSES.get(str(nested_value(event, "bounce_class"))),
    "Unisender Go": lambda event: nested_value(event, "delivery_info", "delivery_status") in UNISENDER_GO_HARD,
}


ORIGINAL_INIT = AnymailInboundMessage.__init__


def init_with_safe_policy(self: AnymailInboundMessage, *_args: Any, **_kwargs: Any) -> None:
    """Create the message with our header policy; anymail's own policy decodes headers with any charset."""
    ORIGINAL_INIT(self, policy=charsets.POLICY)


def connect_signals() -> None:
    """Connect the handlers to django-anymail's signals."""
    AnymailInboundMessage.__init__ = init_with_safe_policy
    tracking.connect(handle_tracking_event, dispatch_uid="delivery.inbound.esp_webhooks")
    inbound.connect(handle_inbound_email, dispatch_uid="delivery.inbound.esp_webhooks")


def handle_tracking_event(event: Any, esp_name: str, **_later: Any) -> None:
    """Record a provider's event about an email."""
    type_ = feedback_type_of(event, esp_name=esp_name)
    if type_ is None:
        return
    own = (event.metadata or {}).get(COPY) if isinstance(event.metadata, Mapping) else None
    ids = tuple(str(found) for found in (own, event.message_id) if found)
    provider_id = clean_text(str(event.message_id or ""))[:MAX_DETAIL_LENGTH]
    referent = feedback.find_referent(message_ids=ids, provider_id=provider_id)
    detail = clean_text(" ".join(str(event.mta_response or event.description or "").split()))[:MAX_DETAIL_LENGTH]
    found = Feedback(
        type=type_,
        at=event_time(event, now=timezone.now()),
        address=next(iter(extract_addresses([str(event.recipient or "")])), ""),
        provider_id=provider_id,
        detail=detail,
    )
    if referent is None or not feedback.record_feedback(referent, found):
        log.info("%s reports an email that is not ours: %s %s", esp_name, event.event_type, provider_id)


def handle_inbound_email(event: Any, esp_name: str, **_later: Any) -> None:
    """Receive an email that came in through a provider."""
    mail = event.message
    email = InboundEmail(mail, recipient=(mail.envelope_recipient or "").lower(), envelope_sender=mail.envelope_sender)
    outcome = router.receive(email, at=timezone.now())
    log.info("%s delivered an inbound email: %s", esp_name, outcome)


def feedback_type_of(event: Any, *, esp_name: str) -> FeedbackType | None:
    """Return the meaning of an event for its email; None if it has none."""
    type_ = FEEDBACK_OF_EVENT.get(event.event_type)
    if type_ is FeedbackType.REFUSED:
        return FEEDBACK_OF_REJECTION.get(event.reject_reason, type_)
    if type_ is FeedbackType.BOUNCED and is_hard_bounce(event, esp_name=esp_name):
        return FeedbackType.NO_MAILBOX
    return type_


def is_hard_bounce(event: Any, *, esp_name: str) -> bool:
    """Tell whether a bounce means that the mailbox does not exist.

    A provider's "permanent" only says that it will not try again, so the server's words outweigh it. Without any of
    these the bounce is hard, as most providers report soft bounces by name.
    """
    if event.reject_reason in TEMPORARY_REASONS:
        return False
    if event.reject_reason == RejectReason.INVALID:
        return True
    by_provider = HARD_BOUNCE_TESTS[esp_name](event.esp_event) if esp_name in HARD_BOUNCE_TESTS else None
    # The description is the provider's own text if it has a status of its own.
    words = event.mta_response or (event.description if by_provider is None else "")
    return by_provider is not False and mailbox_verdict(str(words or "")) is not False


def event_time(event: Any, *, now: datetime) -> datetime:
    """Return the time of an event by the provider's clock, but never later than `now`."""
    when = event.timestamp
    return min(when, now) if isinstance(when, datetime) and when.tzinfo is not None else now


class UnlimitedFormReader(FileUploadHandler):
    """Reads a form of any size: Django's own reader has limits for forms that people fill in."""

    def handle_raw_input(
        self,
        input_data: Any,
        META: dict[str, str],  # noqa: N803 - Django calls it so
        content_length: int,
        boundary: Any,
        encoding: str | None = None,
    ) -> tuple[QueryDict, MultiValueDict[str, UploadedFile]]:
        """Return the fields and the files of a form, whatever their size and number."""
        fields, files = QueryDict(mutable=True, encoding=encoding), MultiValueDict[str, UploadedFile]()
        for kind, heads, stream in Parser(LazyStream(ChunkIter(input_data)), boundary):
            given = heads.get("content-disposition", ("", {}))[1]
            name, content = as_text(given.get("name", b"")), stream.read()
            if kind == FIELD:
                text = as_text(content)
                fields.appendlist(name, safe_charsets(text) if name == "charsets" else text)
            elif kind == FILE:
                content_type = heads.get("content-type", (BINARY_TYPE, {}))[0].strip()
                files.appendlist(name, SimpleUploadedFile(as_text(given["filename"]), content, content_type))
        return fields, files


def safe_charsets(given: str) -> str:
    """Return the charsets that SendGrid gives for an email's fields, with UTF-8 instead of those not in our list."""
    try:
        parsed = json.loads(given)
    except (ValueError, RecursionError):
        return "{}"
    by_field = parsed.items() if isinstance(parsed, dict) else ()
    return json.dumps({field: charsets.codec_of(str(name)) or charsets.FALLBACK for field, name in by_field})


def as_text(content: bytes | str) -> str:
    return content if isinstance(content, str) else content.decode(errors="replace")


# The errors of django-anymail about a body. Subclasses of its own errors are about missing settings or the network.
FORMAT_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
EXACT_FORMAT_ERRORS = (AnymailAPIError, AnymailConfigurationError)


class Malformed(Exception):
    """The body is not in the provider's format."""


@contextmanager
def format_errors_as_malformed(exact: tuple[type[Exception], ...]) -> Iterator[None]:
    """Raise Malformed instead of the errors of django-anymail about a body."""
    try:
        yield
    except FORMAT_ERRORS + exact as wrong:
        # An answer of the provider's API that is not JSON raises an OSError that is also a ValueError.
        if isinstance(wrong, OSError) or (isinstance(wrong, exact) and type(wrong) not in exact):
            raise
        raise Malformed from wrong


def check_email(mail: AnymailInboundMessage | None) -> None:
    """Raise an error if a provider's fields, which django-anymail copies unchecked, are missing or not texts."""
    if mail is None:
        raise ValueError("An inbound event has no email.")
    texts = [part.get_payload() for part in mail.walk() if not part.is_multipart()]
    for text in (*texts, mail.envelope_sender, mail.envelope_recipient):
        if not isinstance(text, str | bytes | None):
            raise TypeError("A text or an address of an inbound email has another type.")


class MalformedBodyMixin:
    """Part of a view of django-anymail that distinguishes its errors about a body from errors of our handlers."""

    def run_validators(self, request: HttpRequest) -> None:
        """Check the request's signature, which some providers put into the body."""
        with format_errors_as_malformed((AnymailAPIError,)):
            super().run_validators(request)  # type: ignore[misc] # of the view that this is mixed into

    def parse_events(self, request: HttpRequest) -> list[Any]:
        """Return all events of the body, before the first one is handled."""
        with format_errors_as_malformed(EXACT_FORMAT_ERRORS):
            events = [event for event in super().parse_events(request) if event is not None]  # type: ignore[misc]
            for event in events:
                if isinstance(event, AnymailInboundEvent):
                    check_email(event.message)
            return events


def refuse_malformed_bodies(view: View) -> View:
    """Return a view of django-anymail that raises Malformed about a body in another format."""
    of_provider = view.view_class  # type: ignore[attr-defined]
    return type(of_provider.__name__, (MalformedBodyMixin, of_provider), {}).as_view()  # type: ignore[attr-defined]


def accept_large_requests(view: View) -> View:
    """Accept requests as large as an email from callers that know the secret; Django's limit applies to all others."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        given = get_request_basic_auth(request) or ""
        if not any(constant_time_compare(given, secret) for secret in settings.WEBHOOK_SECRET):
            try:
                return view(request, *args, **kwargs)
            except Malformed:
                return HttpResponse(MALFORMED, status=400, content_type="text/plain")
            except ImproperlyConfigured as unset:
                # Only a request without the secret: a provider's own request fails until its settings exist.
                raise Http404("This provider is not set up.") from unset
        size = request.META.get("CONTENT_LENGTH") or ""
        if size.isdecimal():
            if int(size) > MAX_REQUEST_BYTES:
                return HttpResponse("Payload too large.", status=413, content_type="text/plain")
            # As Django would read it, but without its limit.
            request._body = request.read(int(size))  # noqa: SLF001 - it has no other name
            request.upload_handlers = [UnlimitedFormReader(request)]
        try:
            return view(request, *args, **kwargs)
        except RecursionError:
            # Answered with 200: posting it again would not help.
            log.warning("an inbound email is nested too deeply to be parsed")
            return HttpResponse("This email is nested too deeply.", content_type="text/plain")
        except Malformed:
            log.warning("the body of %s is malformed", request.path, exc_info=True)
            return HttpResponse(MALFORMED, status=400, content_type="text/plain")

    return wrapped


urlpatterns = [
    URLPattern(
        found.pattern,
        accept_large_requests(refuse_malformed_bodies(found.callback)),
        found.default_args,
        found.name,
    )
    for found in urls.urlpatterns
]
