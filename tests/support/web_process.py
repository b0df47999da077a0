"""A real gunicorn with the product, on the database of the tests."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from django.db import connection

ROOT = Path(__file__).parents[2]
STARTS_WITHIN = 60


@dataclass(frozen=True, slots=True)
class WebProcess:
    """The URL of the server, and its output so far."""

    port: int
    log: Path

    def send(self, request: str, *, within: float = 60) -> str:
        """Send a raw request and return the whole answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=within) as line:
            line.sendall(request.encode())
            answer = b""
            while more := line.recv(65536):
                answer += more
        return answer.decode(errors="replace")

    def get(self, target: str, *, method: str = "GET", **headers: str) -> str:
        """Request an address and return the whole answer."""
        sent = {"Host": "127.0.0.1", "Connection": "close", "Content-Length": "0", **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in sent.items())
        return self.send(f"{method} {target} HTTP/1.1\r\n{lines}\r\n")


def database_url() -> str:
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


@contextmanager
def web_process(folder: Path, *arguments: str, **environment: str) -> Iterator[WebProcess]:
    """Run gunicorn as the Procfile does, for the length of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    web = WebProcess(port=port, log=folder / "web.log")
    command = [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", "--threads", "4"]
    with web.log.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [*command, "--no-control-socket", *arguments],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": database_url(), "API_RATE_LIMIT": "0", **environment},
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                web.get("/admin/login/")
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, web.log.read_text()  # noqa: PT018
                time.sleep(0.1)
        yield web
    finally:
        process.terminate()
        process.wait(timeout=30)
