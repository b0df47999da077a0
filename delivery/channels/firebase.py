"""Push channel: Firebase Cloud Messaging for Android, iOS and the web, by one API (HTTP v1).

The API takes one push per request. As with email, it matters how far a request got: before it left nothing was
accepted; after it, only an answer tells.
"""

import json
import threading
import uuid
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import firebase_admin
from django.conf import settings
from firebase_admin import credentials, exceptions, messaging
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from requests import Response
from requests.adapters import HTTPAdapter

from delivery import process
from delivery.channels.base import Answers, ChannelDown, Envelope, NoSuchDevice, Rejected, Unavailable
from delivery.channels.esp import ERROR_MAX_LENGTH, has_not_left
from delivery.channels.push import push_texts

# Threads log in one after the other, so that they do so once.
LOGIN_LOCK = threading.Lock()
# Answers about our account, so the next push would get the same: no login, no permission, no such project.
ABOUT_US = {401, 403, 404}
TRY_LATER = {429, 500, 503}
MAX_RETRY_AFTER = timedelta(days=1)


class Firebase:
    """Pushes over one login for all threads of the process."""

    def __init__(self, given: str) -> None:
        self.given = given

    def send(self, envelope: Envelope) -> str:
        """Push one copy. Return the id of the first push that was accepted."""
        said = list(self.send_to_each(envelope).values())
        taken = next((one for one in said if isinstance(one, str)), None)
        if taken is None:
            raise next((one for one in said if isinstance(one, BaseException)), Rejected("There is no device."))
        return taken

    def send_to_each(self, envelope: Envelope) -> Answers:
        """Push a copy to each of its devices, one after the other."""
        try:
            app = open_app(self.given)
        except ChannelDown as down:
            return dict.fromkeys(envelope.to, down)
        return {token: send(app, envelope, token) for token in envelope.to}

    def close(self) -> None:
        """Leave the login open: the threads of the process share it."""


def open_app(given: str) -> firebase_admin.App:
    """Return the process's app of a service account, logged in; ChannelDown if that fails, as nothing has left then."""
    with LOGIN_LOCK:
        try:
            if given not in process.firebase_apps:
                process.firebase_apps[given] = app_of(given)
            app = process.firebase_apps[given]
            login = app.credential.get_credential()
            if not login.valid:
                login.refresh(partial(Request(), timeout=settings.PUSH_TIMEOUT))
        except GoogleAuthError as wrong:
            raise login_refused(wrong) from wrong
        except Exception as wrong:  # Nothing has left.
            raise ChannelDown(f"FCM_CREDENTIALS cannot be used: {one_line(wrong)}") from wrong
    return app


def app_of(given: str) -> firebase_admin.App:
    """Return an app of the service account whose key is given, as JSON or as the path of a file."""
    read = json.loads(given if given.lstrip().startswith("{") else Path(given).read_text())
    options = {"httpTimeout": settings.PUSH_TIMEOUT}
    app = firebase_admin.initialize_app(credentials.Certificate(read), options, name=f"outbound-{uuid.uuid4()}")
    # By default the library retries when a connection is lost or Firebase fails. A device that has the push would get
    # it twice, and a batch would wait as long as Firebase says. We decide when to retry, and the library has no
    # setting for that.
    service = messaging._get_messaging_service(app)  # noqa: SLF001
    for scheme in ("https://", "http://", "https://fcm.googleapis.com"):
        service._client.session.mount(scheme, HTTPAdapter(pool_maxsize=settings.PUSH_CONNECTIONS, max_retries=0))  # noqa: SLF001
    service._fcm_url = f"{settings.FCM_URL}/v1/projects/{app.project_id}/messages:send"  # noqa: SLF001
    return app


def send(app: firebase_admin.App, envelope: Envelope, token: str) -> str | BaseException:
    """Push to one device. Return Firebase's id for it, or the exception."""
    try:
        return str(messaging.send(push_of(envelope, token), app=app))
    except Exception as wrong:  # noqa: BLE001 - its meaning is the answer
        return meaning_of(wrong)


def push_of(envelope: Envelope, token: str) -> messaging.Message:
    """Build a push. If it arrives twice after all, the second replaces the first on the phone."""
    title, body = push_texts(envelope.subject, envelope.text)
    web_link = envelope.link if envelope.link.lower().startswith("https://") else None
    data = {"outbound_token": envelope.token, "link": envelope.link}
    return messaging.Message(
        token=token,
        notification=messaging.Notification(title=title or None, body=body),
        data={name: value for name, value in data.items() if value},
        android=messaging.AndroidConfig(notification=messaging.AndroidNotification(tag=envelope.token)),
        apns=messaging.APNSConfig(
            headers={"apns-collapse-id": envelope.token},
            payload=messaging.APNSPayload(aps=messaging.Aps(sound="default")),
        ),
        webpush=messaging.WebpushConfig(
            notification=messaging.WebpushNotification(tag=envelope.token),
            fcm_options=messaging.WebpushFCMOptions(link=web_link) if web_link else None,
        ),
    )


def meaning_of(wrong: Exception) -> BaseException:
    """Return the exception that an error means for the push; the error itself if it is uncertain."""
    if isinstance(wrong, GoogleAuthError):
        return login_refused(wrong)
    if not isinstance(wrong, exceptions.FirebaseError):
        return wrong
    response, words = wrong.http_response, one_line(wrong)
    if response is None:
        return ChannelDown(f"Firebase cannot be reached: {words}") if has_not_left(wrong.cause) else wrong
    if isinstance(wrong, messaging.UnregisteredError) or is_about_the_token(response):
        return NoSuchDevice(words)
    if isinstance(wrong, messaging.SenderIdMismatchError):
        return Rejected(f"The device belongs to another Firebase project: {words}")
    if isinstance(wrong, messaging.ThirdPartyAuthError):
        # This concerns phones of one make; the others get theirs.
        return Unavailable(f"Firebase may not push to devices like this one: {words}")
    if response.status_code in ABOUT_US:
        return ChannelDown(f"Firebase refuses us: {response.status_code} {words}")
    if response.status_code in TRY_LATER:
        return Unavailable(f"{response.status_code} {words}", after=retry_after(response))
    return Rejected(words) if 400 <= response.status_code < 500 and response.status_code != 408 else wrong


def login_refused(wrong: GoogleAuthError) -> ChannelDown:
    return ChannelDown(f"Google refuses the login with FCM_CREDENTIALS: {one_line(wrong)}")


def is_about_the_token(response: Response) -> bool:
    """Return whether the push was refused for its token, and not for its content."""
    if response.status_code != 400:
        return False
    try:
        error: Any = response.json()["error"]
        details = [detail for detail in error.get("details", []) if isinstance(detail, dict)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    fields = [one.get("field") for detail in details for one in detail.get("fieldViolations", [])]
    return "message.token" in fields or "registration token" in str(error.get("message", ""))


def retry_after(response: Response) -> timedelta:
    """Return how long Firebase asks us to wait."""
    asked = response.headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdecimal():
        return min(timedelta(seconds=int(asked[:6])), MAX_RETRY_AFTER)
    try:
        until = parsedate_to_datetime(asked) - parsedate_to_datetime(response.headers.get("Date", ""))
    except (ValueError, TypeError):
        return timedelta(0)
    return max(timedelta(0), min(until, MAX_RETRY_AFTER))


def one_line(wrong: Exception) -> str:
    return " ".join(f"{wrong}".split())[:ERROR_MAX_LENGTH]
