"""What providers post to us, in their many shapes; django-anymail checks who posts and makes one shape of them.

Whatever goes wrong here is a 500, and the provider posts it again.
"""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any

from anymail import urls
from anymail.inbound import AnymailInboundMessage
from anymail.signals import EventType, RejectReason, inbound, tracking
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

from delivery.channels.bounce_rules import ENHANCED, says_no_such_mailbox
from delivery.channels.esp import COPY
from delivery.inbound import charsets, feedback, router
from delivery.inbound.feedback import Feedback, FeedbackType
from delivery.inbound.message import InboundEmail, clean

log = logging.getLogger(__name__)

LONGEST_WORDS = 500
BYTES = "application/octet-stream"
# A provider posts a whole mail at once, with all that is enclosed.
LARGEST = 50 * 2**20
View = Callable[..., HttpResponseBase]

# What each event says of the mail; what says nothing of it (a subscription, an unknown one) is missing.
EVENTS: dict[str, FeedbackType] = {
    EventType.QUEUED: FeedbackType.TAKEN,
    EventType.SENT: FeedbackType.TAKEN,
    EventType.DEFERRED: FeedbackType.TAKEN,
    EventType.DELIVERED: FeedbackType.TAKEN,
    EventType.AUTORESPONDED: FeedbackType.TAKEN,
    EventType.OPENED: FeedbackType.TAKEN,
    EventType.CLICKED: FeedbackType.TAKEN,
    EventType.BOUNCED: FeedbackType.BOUNCED,
    EventType.REJECTED: FeedbackType.REFUSED,
    EventType.FAILED: FeedbackType.REFUSED,
    EventType.COMPLAINED: FeedbackType.COMPLAINED,
    EventType.UNSUBSCRIBED: FeedbackType.UNSUBSCRIBED,
}
# Why a provider sends no more to an address, where it says so: it never got to the mailbox this time.
WHY_REFUSED: dict[str, FeedbackType] = {
    RejectReason.INVALID: FeedbackType.REFUSED_NO_MAILBOX,
    RejectReason.BOUNCED: FeedbackType.REFUSED_NO_MAILBOX,
    RejectReason.SPAM: FeedbackType.COMPLAINED,
    RejectReason.UNSUBSCRIBED: FeedbackType.UNSUBSCRIBED,
}
PASSES = {RejectReason.TIMED_OUT, RejectReason.BLOCKED, RejectReason.SPAM, RejectReason.OTHER}


def within(event: Any, *keys: str) -> Any:
    """What is deep within a provider's own event; None where it is not there."""
    for key in keys:
        event = event.get(key) if isinstance(event, Mapping) else None
    return event


# Where a provider says by itself whether a bounce is for good; None where this one does not.
FOR_GOOD: dict[str, Callable[[Any], bool | None]] = {
    "Amazon SES": lambda event: within(event, "bounce", "bounceType") == "Permanent",
    "Brevo": lambda event: within(event, "event") == "hard_bounce",
    "MailerSend": lambda event: within(event, "data", "type") == "hard_bounced",
    "Mailjet": lambda event: bool(within(event, "hard_bounce")),
    "Mandrill": lambda event: within(event, "event") == "hard_bounce",
    "Postmark": lambda event: within(event, "Type") == "HardBounce",
    "Resend": lambda event: (kind := within(event, "data", "bounce", "type")) and kind == "Permanent",
    "SendGrid": lambda event: False if within(event, "type") == "blocked" else None,
}


AS_ANYMAIL_MAKES_IT = AnymailInboundMessage.__init__


def with_plain_headers(self: AnymailInboundMessage, *_args: Any, **_kwargs: Any) -> None:
    """Make a mail that reads its headers as one from a pipe does; anymail's policy decodes them with any charset."""
    AS_ANYMAIL_MAKES_IT(self, policy=charsets.POLICY)


def listen() -> None:
    """Be who django-anymail tells."""
    AnymailInboundMessage.__init__ = with_plain_headers
    tracking.connect(tracked, dispatch_uid="delivery.inbound.esp_webhooks")
    inbound.connect(came_in, dispatch_uid="delivery.inbound.esp_webhooks")


def tracked(event: Any, esp_name: str, **_later: Any) -> None:
    """Write down what a provider tells of a mail."""
    what = what_of(event, esp_name=esp_name)
    if what is None:
        return
    own = (event.metadata or {}).get(COPY) if isinstance(event.metadata, Mapping) else None
    ids = tuple(str(found) for found in (own, event.message_id) if found)
    provider_id = clean(str(event.message_id or ""))[:LONGEST_WORDS]
    named = feedback.find(message_ids=ids, provider_id=provider_id)
    words = clean(" ".join(str(event.mta_response or event.description or "").split()))[:LONGEST_WORDS]
    news = Feedback(
        what=what,
        at=moment_of(event, now=timezone.now()),
        address=str(event.recipient or ""),
        provider_id=provider_id,
        words=words,
    )
    if named is None or not feedback.record_feedback(named, news):
        log.info("%s tells of a mail that is none of ours: %s %s", esp_name, event.event_type, provider_id)


def came_in(event: Any, esp_name: str, **_later: Any) -> None:
    """Take in a mail that came to a provider."""
    mail = event.message
    letter = InboundEmail(mail, recipient=(mail.envelope_recipient or "").lower(), envelope_sender=mail.envelope_sender)
    outcome = router.receive(letter, at=timezone.now())
    log.info("%s brings a mail: %s", esp_name, outcome)


def what_of(event: Any, *, esp_name: str) -> FeedbackType | None:
    """What an event says of the mail; None for nothing."""
    what = EVENTS.get(event.event_type)
    if what is FeedbackType.REFUSED:
        return WHY_REFUSED.get(event.reject_reason, what)
    if what is FeedbackType.BOUNCED and is_for_good(event, esp_name=esp_name):
        return FeedbackType.NO_MAILBOX
    return what


def is_for_good(event: Any, *, esp_name: str) -> bool:
    """Whether a bounce is a hard one: by the provider's word, else by the server's, else it is, as most call it so."""
    if event.reject_reason in PASSES:
        return False
    said = FOR_GOOD[esp_name](event.esp_event) if esp_name in FOR_GOOD else None
    if said is not None:
        return said
    words = str(event.mta_response or event.description or "")
    return says_no_such_mailbox(words) if ENHANCED.search(words) else True


def moment_of(event: Any, *, now: datetime) -> datetime:
    """When it happened, by the provider's clock, which may be ahead of ours."""
    when = event.timestamp
    return min(when, now) if isinstance(when, datetime) and when.tzinfo is not None else now


class WholeForm(FileUploadHandler):
    """Reads a form to its end: Django's own reader stops where a form that people fill in would be over."""

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
            name, content = words_of(given.get("name", b"")), stream.read()
            if kind == FIELD:
                words = words_of(content)
                fields.appendlist(name, known_charsets(words) if name == "charsets" else words)
            elif kind == FILE:
                content_type = heads.get("content-type", (BYTES, {}))[0].strip()
                files.appendlist(name, SimpleUploadedFile(words_of(given["filename"]), content, content_type))
        return fields, files


def known_charsets(told: str) -> str:
    """Return which charsets SendGrid says a mail's fields are in, with UTF-8 for one that no email is written in."""
    try:
        said = json.loads(told)
    except (ValueError, RecursionError):
        return "{}"
    named = said.items() if isinstance(said, dict) else ()
    return json.dumps({field: charsets.codec_of(str(name)) or charsets.FALLBACK for field, name in named})


def words_of(content: bytes | str) -> str:
    """Some bytes of a form as text."""
    return content if isinstance(content, str) else content.decode(errors="replace")


def roomy(view: View) -> View:
    """Take requests of the size of a mail from who knows the secret; Django's own limit is for everybody else."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        given = get_request_basic_auth(request) or ""
        if not any(constant_time_compare(given, secret) for secret in settings.WEBHOOK_SECRET):
            try:
                return view(request, *args, **kwargs)
            except ImproperlyConfigured as unset:
                # A provider's own post goes on failing until its settings are there; a stranger's is for nobody.
                raise Http404("This provider is not set up.") from unset
        size = request.META.get("CONTENT_LENGTH") or ""
        if size.isdecimal():
            if int(size) > LARGEST:
                return HttpResponse("This is larger than any mail.", status=413, content_type="text/plain")
            # What Django would read and keep, had it no limit.
            request._body = request.read(int(size))  # noqa: SLF001 - it has no other name
            request.upload_handlers = [WholeForm(request)]
        try:
            return view(request, *args, **kwargs)
        except RecursionError:
            # Posted again it would be no other.
            log.warning("a mail that came in is nested too deeply to be read")
            return HttpResponse("This is nested too deeply to be a mail.", content_type="text/plain")

    return wrapped


urlpatterns = [
    URLPattern(found.pattern, roomy(found.callback), found.default_args, found.name) for found in urls.urlpatterns
]
