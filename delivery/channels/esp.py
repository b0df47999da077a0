"""What a provider's API says of one mail, told apart in the channel's terms. Its back-ends are django-anymail's.

As with SMTP, what matters is what is known to have happened: before the request left nothing was taken; after it, only
an answer tells. An answer of a gateway (502, 504) says that it lost the provider, not that the provider took nothing.
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

from delivery.channels.base import ChannelDown, NoSuchMailbox, Rejected, SenderRefused, Unavailable
from delivery.channels.bounce_rules import says_no_such_mailbox, says_not_this_sender
from delivery.channels.mime import Mail

# Answers by which a provider speaks of us or of itself, not of the mail: no key, no credit, no such sender's domain;
# too many at once, out of service. The next mail would hear the same, so none is tried for a moment.
NOT_NOW = {401, 402, 403, 404, 407, 429, 503, 509}
# By these it may also speak of the sender of this message, where others are known to it.
OF_THE_SENDER = {400, 401, 403, 422}
TRY_LATER = {408, 423, 425, 500, 507}
# It knows our key from another try, so it may have the mail from then.
HAD_BEFORE = 409
# A webhook names the copy by this, where the provider hands back what it was told; these two do not.
COPY = "outbound_copy"
KEEP_NOTHING = {"MailerSend", "Postal"}
NOT_LEFT = (ConnectTimeout, ProxyError, InvalidURL, MissingSchema)
NOT_CONNECTED = (NewConnectionError, ConnectTimeoutError)
ERROR_MAX_LENGTH = 500


def add_provider_ids(message: Mail, connection: BaseEmailBackend) -> None:
    """Have a mail go with what names it: to the provider's webhooks, and so that it is not taken twice."""
    name = getattr(connection, "esp_name", "")
    if not name:
        return
    message_id = message.extra_headers["Message-ID"]
    if name not in KEEP_NOTHING:
        message.metadata = {COPY: message_id}
    session = getattr(connection, "session", None)
    if isinstance(session, Session):
        # Those who know it take a request of one key once; the others ignore it.
        session.headers["Idempotency-Key"] = message_id.strip("<>")


def meaning_of(error: AnymailError) -> Rejected | Unavailable | None:
    """What an error means for the mail; None where nobody can know whether it was taken."""
    if isinstance(error, AnymailRecipientsRefused):
        return refusal_of(error)
    if isinstance(error, AnymailInvalidAddress | AnymailSerializationError | AnymailUnsupportedFeature):
        return Rejected(f"The provider cannot send this mail: {error_text(error)}")
    if not isinstance(error, AnymailAPIError):
        return None
    if error.status_code is None:
        down = ChannelDown(f"The provider cannot be reached: {error_text(error)}")
        return down if has_not_left(error.__cause__) else None
    if error.status_code in OF_THE_SENDER and says_not_this_sender(error_text(error)):
        return SenderRefused(f"The provider takes no mail from this sender: {error_text(error)}")
    if error.status_code in NOT_NOW:
        return ChannelDown(f"The provider takes no mail from us: {error_text(error)}")
    if error.status_code in TRY_LATER:
        return Unavailable(error_text(error))
    if 400 <= error.status_code < 500 and error.status_code != HAD_BEFORE:
        return Rejected(error_text(error))
    return None


def refusal_of(error: AnymailRecipientsRefused) -> Rejected:
    """What it means that the provider will not write to this address."""
    status = getattr(error.email_message, "anymail_status", None)
    words = error_text(error)
    if getattr(status, "status", None) == {"invalid"} or says_no_such_mailbox(words):
        return NoSuchMailbox(words)
    return Rejected(words)


def has_not_left(cause: BaseException | None) -> bool:
    """Whether a request that failed by this surely never left."""
    if isinstance(cause, NOT_LEFT):
        return True
    inner = cause.args[0] if isinstance(cause, NoConnection) and cause.args else None
    if isinstance(inner, MaxRetryError):
        inner = inner.reason
    # A certificate is looked at before anything is said.
    return isinstance(inner, NOT_CONNECTED) or (isinstance(cause, SSLError) and "CERTIFICATE" in str(cause).upper())


def error_text(error: AnymailError) -> str:
    """The provider's own words, on a line or two."""
    if error.response is None:
        return " ".join(str(error).split())[:ERROR_MAX_LENGTH]
    return f"{error.response.status_code} {' '.join(str(error.response.text).split())}"[:ERROR_MAX_LENGTH].strip()
