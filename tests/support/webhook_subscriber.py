"""A subscriber of outgoing webhooks: a real server on this machine."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Subscriber(ThreadingHTTPServer):
    """A subscriber's server: collects notifications and answers with `status`."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hears)
        self.heard: list[tuple[dict[str, str], bytes]] = []
        # Clear it to let requests hang.
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.counting = threading.Lock()
        self.now = self.most_at_once = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks?from=outbound"

    @property
    def notifications(self) -> list[dict]:
        return [json.loads(body) for _, body in self.heard]


class Hears(BaseHTTPRequestHandler):
    server: Subscriber

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((dict(self.headers), body))
        with self.server.counting:
            self.server.now += 1
            self.server.most_at_once = max(self.server.now, self.server.most_at_once)
        self.server.may_answer.wait(30)
        with self.server.counting:
            self.server.now -= 1
        self.send_response(self.server.status)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


@contextmanager
def serve() -> Iterator[Subscriber]:
    server = Subscriber()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.may_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()
