"""Firebase on a real socket: its login, and HTTP v1 as far as one push needs it."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from delivery import process


class Act(Enum):
    """Actions of Firebase instead of an answer."""

    HANG = "hang"
    DROP = "drop"


Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]] | Act


def refusal(status: int, name: str, message: str, *, code: str = "", field: str = "") -> tuple[int, Any]:
    """Return an error in the form of Firebase."""
    details: list[dict[str, Any]] = []
    if code:
        details.append({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})
    if field:
        violation = {"field": field, "description": message}
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]})
    return status, {"error": {"code": status, "message": message, "status": name, "details": details}}


UNREGISTERED = refusal(404, "NOT_FOUND", "Requested entity was not found.", code="UNREGISTERED")
NO_TOKEN = refusal(
    400,
    "INVALID_ARGUMENT",
    "The registration token is not a valid FCM registration token",
    code="INVALID_ARGUMENT",
    field="message.token",
)
TOO_BIG = refusal(400, "INVALID_ARGUMENT", "Message is too big", code="INVALID_ARGUMENT", field="message")
OTHER_PROJECT = refusal(403, "PERMISSION_DENIED", "SenderId mismatch", code="SENDER_ID_MISMATCH")
NO_PERMISSION = refusal(403, "PERMISSION_DENIED", "Permission 'cloudmessaging.messages.create' denied")
NO_APPLE_KEY = refusal(401, "UNAUTHENTICATED", "Auth error from APNS", code="THIRD_PARTY_AUTH_ERROR")
BUSY = refusal(503, "UNAVAILABLE", "The service is currently unavailable.", code="UNAVAILABLE")
FALTERS = refusal(500, "INTERNAL", "Internal error encountered.", code="INTERNAL")
TOO_MANY = refusal(429, "RESOURCE_EXHAUSTED", "Quota exceeded", code="QUOTA_EXCEEDED")


@contextmanager
def serving(settings: Any, monkeypatch: Any) -> Iterator["Firebase"]:
    """Start Firebase and set it in the settings."""
    # Besides the push, Google's library requests the regions of the account.
    boundary = "google.auth.credentials.CredentialsWithRegionalAccessBoundary"
    monkeypatch.setattr(f"{boundary}._is_regional_access_boundary_lookup_required", lambda _self: False)
    server = Firebase()
    settings.FCM_CREDENTIALS, settings.FCM_URL, settings.PUSH_TIMEOUT = server.credentials, server.url, 1
    yield server
    # Google's library starts an event loop to close a login, which fails in a thread that runs Playwright's.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(process.close_resources).result()
    server.close()


@cache
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


class Listening(ThreadingHTTPServer):
    """Lets a whole batch connect at once."""

    request_queue_size = 128
    daemon_threads = True


class Firebase:
    """Records pushes and gives each device scripted answers: one per push, the last one from then on."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.login: Answer = (200, {"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"})
        self.pushes: list[dict[str, Any]] = []
        self.logins = 0
        self.bearers: set[str] = set()
        self.most_at_once = self.now_in_hand = 0
        self.takes = 0.0
        self.lock = threading.Lock()
        self.ending = threading.Event()
        firebase = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/token":
                    with firebase.lock:
                        firebase.logins += 1
                    firebase.answer(self, firebase.login)
                    return
                assert self.path == "/v1/projects/acme/messages:send", self.path
                push = json.loads(sent)["message"]
                firebase.bearers.add(self.headers["Authorization"])
                firebase.answer(self, firebase.answer_to(push))

            def log_message(self, *_args: Any) -> None:
                """Say nothing."""

        self.server = Listening(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def credentials(self) -> str:
        """Return the key of a service account that logs in at this server."""
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "acme",
                "private_key_id": "1",
                "private_key": private_key(),
                "client_email": "outbound@acme.iam.gserviceaccount.com",
                "token_uri": f"{self.url}/token",
            }
        )

    @property
    def tokens(self) -> list[str]:
        """Return the devices of the pushes, in order."""
        return [push["token"] for push in self.pushes]

    def says(self, token: str, *answers: Answer) -> None:
        """Return the answer for one device."""
        self.answers[token] = list(answers)

    def answer_to(self, push: dict[str, Any]) -> Answer:
        with self.lock:
            self.pushes.append(push)
            self.now_in_hand += 1
            self.most_at_once = max(self.most_at_once, self.now_in_hand)
            told = self.answers.get(push["token"], [])
            answer = told.pop(0) if len(told) > 1 else told[0] if told else None
        time.sleep(self.takes)
        with self.lock:
            self.now_in_hand -= 1
        return answer or (200, {"name": f"projects/acme/messages/{push['token']}"})

    def answer(self, request: BaseHTTPRequestHandler, told: Answer) -> None:
        if told is Act.HANG:
            self.ending.wait(10)
        if isinstance(told, Act):
            request.close_connection = True
            request.connection.close()
            return
        status, content, *headers = told
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        request.send_response_only(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        for name, value in (headers[0] if headers else {}).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self.ending.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)
