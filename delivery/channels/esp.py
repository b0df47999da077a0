"""Email service providers (ESPs): the meaning of their answers for one email. The back-ends are django-anymail's.

As with SMTP, it matters how far the request got: before it left, nothing was accepted; after it, only an answer tells.
A gateway's answer (502, 504) says that it lost the provider, not that the provider accepted nothing.
"""

from anymail.exceptions import (
    AnymailAPIError,
    AnymailError,
    AnymailInvalidAddress,
    AnymailRecipientsRefused,
    AnymailSerializationError,
    AnymailUnsupportedFeature,
)
from django.core.mail.backends.base import BaseEmailBackend
from requests import Session
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import ConnectTimeout, InvalidURL, MissingSchema, ProxyError, SSLError
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from delivery.channels.base import ChannelDown, ConnectionRefused, NoSuchMailbox, Rejected, SenderRefused, Unavailable
from delivery.channels.bounce_rules import says_no_such_mailbox, says_not_this_sender
from delivery.channels.mime import Mail

# Answers about our account or the provider, not about the email: no key, no credit, unknown domain of the sender; too
# many requests, out of service. The next email would get the same answer, so none is tried for a moment.
NOT_NOW = {401, 402, 403, 404, 407, 503, 509}
TOO_MANY_REQUESTS = 429
# These may also concern the sender of this message only.
OF_THE_SENDER = {400, 401, 403, 422}
TRY_LATER = {408, 423, 425, 500, 507}
# The idempotency key is known from another attempt, so the email may have been accepted then.
HAD_BEFORE = 409
# The metadata by which webhooks name the copy; two providers do not return it.
COPY = "outbound_copy"
KEEP_NOTHING = {"MailerSend", "Postal"}
NOT_LEFT = (ConnectTimeout, ProxyError, InvalidURL, MissingSchema)
NOT_CONNECTED = (NewConnectionError, ConnectTimeoutError)
ERROR_MAX_LENGTH = 500


def add_provider_ids(message: Mail, connection: BaseEmailBackend) -> None:
    """Add the id for the provider's webhooks, and the idempotency key."""
    name = getattr(connection, "esp_name", "")
    if not name:
        return
    message_id = message.extra_headers["Message-ID"]
    if name not in KEEP_NOTHING:
        message.metadata = {COPY: message_id}
    session = getattr(connection, "session", None)
    if isinstance(session, Session):
        # Providers that know this header accept one request per key; the others ignore it.
        session.headers["Idempotency-Key"] = message_id.strip("<>")


def meaning_of(error: AnymailError) -> Rejected | Unavailable | None:
    """Return the exception that an error means for the email; None if it is uncertain."""
    if isinstance(error, AnymailRecipientsRefused):
        return refusal_of(error)
    if isinstance(error, AnymailInvalidAddress | AnymailSerializationError | AnymailUnsupportedFeature):
        return Rejected(f"The provider cannot send this mail: {error_text(error)}")
    if not isinstance(error, AnymailAPIError):
        return None
    if error.status_code is None:
        down = ConnectionRefused(f"The provider cannot be reached: {error_text(error)}")
        return down if has_not_left(error.__cause__) else None
    if error.status_code in OF_THE_SENDER and says_not_this_sender(error_text(error)):
        return SenderRefused(f"The provider refuses this sender: {error_text(error)}")
    if error.status_code == TOO_MANY_REQUESTS:
        return ConnectionRefused(f"The provider refuses us: {error_text(error)}")
    if error.status_code in NOT_NOW:
        return ChannelDown(f"The provider refuses us: {error_text(error)}")
    if error.status_code in TRY_LATER:
        return Unavailable(error_text(error))
    if 400 <= error.status_code < 500 and error.status_code != HAD_BEFORE:
        return Rejected(error_text(error))
    return None


def refusal_of(error: AnymailRecipientsRefused) -> Rejected:
    """Return the rejection for a recipient that the provider refuses."""
    status = getattr(error.email_message, "anymail_status", None)
    words = error_text(error)
    if getattr(status, "status", None) == {"invalid"} or says_no_such_mailbox(words):
        return NoSuchMailbox(words)
    return Rejected(words)


def has_not_left(cause: BaseException | None) -> bool:
    """Return whether a request that failed with this error surely never left."""
    if isinstance(cause, NOT_LEFT):
        return True
    inner = cause.args[0] if isinstance(cause, NoConnection) and cause.args else None
    if isinstance(inner, MaxRetryError):
        inner = inner.reason
    # A certificate is checked before anything is sent.
    return isinstance(inner, NOT_CONNECTED) or (isinstance(cause, SSLError) and "CERTIFICATE" in str(cause).upper())


def error_text(error: AnymailError) -> str:
    """Return the text of the provider's answer, shortened."""
    if error.response is None:
        return " ".join(str(error).split())[:ERROR_MAX_LENGTH]
    return f"{error.response.status_code} {' '.join(str(error.response.text).split())}"[:ERROR_MAX_LENGTH].strip()
