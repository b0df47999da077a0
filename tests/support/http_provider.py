"""The API of an email provider on a real socket: Postmark's, as far as one email needs it."""

import json
import threading
from collections.abc import Callable
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROVIDER_ID = "b7bc2f4a-e38e-4336-af7d-e6c392c2f817"


class Act(Enum):
    """Actions of a provider instead of an answer."""

    HANG = "hang"
    DROP = "drop"


Answer = tuple[int, Any] | Act


def taken(mail: dict[str, Any]) -> Answer:
    """Return Postmark's answer for an accepted email."""
    return 200, {"To": mail["To"], "MessageID": PROVIDER_ID, "ErrorCode": 0, "Message": "OK"}


class Provider:
    """Records requests and gives scripted answers: one each, the last one from then on."""

    def __init__(self, *answers: Answer | Callable[[dict[str, Any]], Answer]) -> None:
        self.answers = list(answers) or [taken]
        self.mails: list[dict[str, Any]] = []
        self.requests: list[dict[str, str]] = []
        self.ending = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                provider.answer(self)

            def log_message(self, *_args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        mail = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        self.mails.append(mail)
        self.requests.append(dict(request.headers))
        told = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        told = told(mail) if callable(told) else told
        if told is Act.HANG:
            self.ending.wait(10)
        if isinstance(told, Act):
            request.close_connection = True
            request.connection.close()
            return
        status, content = told
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self.ending.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)
