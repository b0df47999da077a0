"""The demo under load, its broker's files damaged at random: `python -m benchmarks.demo_load [CALLS]` (50,000).

A demo in a folder of its own records one event for each call of its API, and notifies a subscriber of each. Meanwhile
files of its broker are emptied, truncated, changed, deleted and added. In the end every call was answered with 202,
every event is recorded, the subscriber was notified of each, the queue is empty, and no process was restarted.
Everything runs on 127.0.0.1.
"""

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import cache_from_source
from pathlib import Path

import psutil
import psycopg

from config.postgres.embedded import COMMON, DATABASE
from config.postgres.server import Server

ROOT = Path(__file__).resolve().parent.parent
CODE = ("config", "audiences", "messaging", "delivery", "outbound", "templates", "static", "manage.py")
CALLS = 50_000
CONNECTIONS = 8
CUSTOMERS = 4_000
EVENT = "load-call"
SEED = 20_261_126
START_WITHIN = 400
# Seconds that the worker may take for the rest of the queue: for each thousand calls, and at least.
DRAIN_PER_THOUSAND, DRAIN_AT_LEAST = 60, 180
PARTS = ("mail", "web", "worker", "beat")


@dataclass(kw_only=True)
class Figures:
    """The results of a run."""

    calls: int
    seconds: float = 0.0
    drained_after: float = 0.0
    damaged: Counter[str] = field(default_factory=Counter)
    moved_aside: int = 0
    longest_queue: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    events: int = 0
    told: int = 0
    queue_left: int = 0
    restarted: list[str] = field(default_factory=list)

    def failures(self) -> list[str]:
        """Return the failures: lost calls, events or messages, and processes that died."""
        found = {
            f"answers other than 202: {dict(self.refused)}": bool(self.refused),
            f"events recorded: {self.events}": self.events != self.calls,
            f"events the subscriber was notified of: {self.told}": self.told != self.calls,
            f"messages left in the queue: {self.queue_left}": bool(self.queue_left),
            f"processes that died: {', '.join(self.restarted)}": bool(self.restarted),
        }
        return [what for what, is_wrong in found.items() if is_wrong]

    def __str__(self) -> str:
        per_second = self.calls / self.seconds if self.seconds else 0
        return (
            f"{self.calls:,} calls in {self.seconds:.0f} s ({per_second:.0f} a second, {CONNECTIONS} connections),"
            f" the rest done {self.drained_after:.0f} s later\n"
            f"damaged: {self.damaged.total():,} times ({dict(self.damaged)}); {self.moved_aside:,} files moved aside;"
            f" longest queue {self.longest_queue:,}\n"
            f"events recorded: {self.events:,}; events the subscriber was notified of: {self.told:,};"
            f" messages left in the queue: {self.queue_left}; processes that died: {len(self.restarted)}"
        )


class Subscriber:
    """A server that receives webhooks and records their events."""

    def __init__(self) -> None:
        self.heard: set[str] = set()
        heard = self.heard

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                told = self.rfile.read(int(self.headers["Content-Length"]))
                heard.update(names_in(json.loads(told)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def names_in(told: object) -> Iterator[str]:
    """Yield the numbered event names anywhere in a notification."""
    if isinstance(told, dict):
        told = list(told.values())
    if isinstance(told, list):
        for part in told:
            yield from names_in(part)
    elif isinstance(told, str) and told.startswith(f"{EVENT}-"):
        yield told


class Demo:
    """A running demo: its folder, the process that started it and its port."""

    def __init__(self, folder: Path, *, pid: int, port: int) -> None:
        self.folder, self.port = folder, port
        self.process = psutil.Process(pid)
        self.data = folder / ".data"
        self.broker = self.data / "broker"
        self.server = Server(name="main", port=5432, home=self.data, settings=COMMON)
        self.token = (self.data / "demo_token").read_text()
        self.first = self.parts()

    def is_over(self) -> bool:
        try:
            return self.process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def parts(self) -> dict[str, psutil.Process]:
        """Return the current processes of the demo, by name."""
        found = {}
        for child in self.process.children():
            with contextlib.suppress(psutil.Error):
                words = child.cmdline()
                named = {"config.demo.mail": "mail", "gunicorn": "web", "worker": "worker", "beat": "beat"}
                name = next((name for word, name in named.items() if word in words), None)
                if name:
                    found[name] = child
        return found

    def died(self) -> list[str]:
        """Return the names of the programs that were restarted."""
        if self.is_over():
            return ["the demo"]
        now = self.parts()
        return [name for name in PARTS if name not in self.first or now.get(name) != self.first[name]]

    def ask(self, statement: str) -> int:
        with psycopg.connect(self.server.url(DATABASE)) as connection:
            row = connection.execute(statement).fetchone()
        return int(row[0]) if row else 0

    def queue(self) -> list[Path]:
        return [path for path in self.broker.iterdir() if path.name.endswith(".msg")]


def copy_code(folder: Path, *, customers: int | None = None) -> None:
    """Copy the code of a demo, with its compiled modules; give it another number of customers."""
    for name in CODE:
        if not (ROOT / name).is_dir():
            shutil.copy2(ROOT / name, folder / name)
            continue
        shutil.copytree(ROOT / name, folder / name)
        compiled = [Path(cache_from_source(str(base / name / "x.py"))).parent for base in (ROOT, folder)]
        if sys.pycache_prefix and compiled[0].is_dir():
            shutil.copytree(*compiled)
    if customers:
        company = folder / "config" / "demo" / "company.py"
        company.write_text(company.read_text().replace("CUSTOMERS = 5_000", f"CUSTOMERS = {customers}"))


@contextmanager
def demo() -> Iterator[Demo]:
    """Run a demo in a copy of the code during the block."""
    folder = Path(tempfile.mkdtemp(prefix="outbound-demo-"))
    log = folder / "demo.log"
    try:
        copy_code(folder)
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "config.demo"],
                cwd=folder,
                env={**os.environ, "PORT": str(port), "API_RATE_LIMIT": "0"},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait(
                lambda: "Ctrl-C ends the demo." in log.read_text(errors="replace"),
                within=START_WITHIN,
                failed=lambda: process.poll() is not None,
                why=lambda: log.read_text(errors="replace"),
            )
            yield Demo(folder, pid=process.pid, port=port)
        finally:
            end(process)
            remove_data(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()


def remove_data(folder: Path) -> None:
    """Remove the data that root's server has outside the folder."""
    server = Server(name="main", port=5432, home=folder / ".data", settings=COMMON)
    if server.process() is None:
        shutil.rmtree(server.folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(holds: Callable[[], object], *, within: float, failed: Callable[[], bool], why: Callable[[], str]) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + within
    while not holds():
        if failed() or time.monotonic() > deadline:
            raise AssertionError(why())
        time.sleep(0.1)


def damage(broker: Path, chance: random.Random) -> str:
    """Damage one file of the broker; return the kind of damage, or "" if there was no file."""
    made = broker / f"{chance.choice('0159')}_{chance.getrandbits(64):016x}.celery.msg"
    # Near the front of the queue, where it is often read next.
    files = [path for path in sorted(broker.glob("*.msg"))[:20] if path.is_file()]
    path = chance.choice(files) if files else None
    what = chance.choice(("empty", "part", "folder", "pipe", "cut off", "emptied", "changed", "deleted"))
    try:
        if what == "empty":
            made.touch()
        elif what == "part":
            made.write_text('{"body": "W1tdLCB7fS')
        elif what == "folder":
            made.mkdir()
        elif what == "pipe":
            os.mkfifo(made)
        elif path is None:
            return ""
        elif what == "cut off":
            os.truncate(path, chance.randrange(200))
        elif what == "emptied":
            os.truncate(path, 0)
        elif what == "changed":
            with path.open("r+b") as file:
                file.seek(chance.randrange(200))
                file.write(bytes([chance.randrange(256)]))
        else:
            path.unlink()
    except FileNotFoundError:
        return ""
    return what


def call(port: int, token: str, numbers: range, *, now: int, refused: Counter[int]) -> None:
    """Record an event for each number, over one connection. Customer and time identify an event."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    for number in numbers:
        body = {
            "event_name": EVENT,
            "user_id": f"u{number % CUSTOMERS + 1}",
            "created_at": now - number // CUSTOMERS,
            "metadata": {"call": f"{EVENT}-{number:06}"},
        }
        client.request("POST", "/api/events", json.dumps(body), headers)
        answer = client.getresponse()
        answer.read()
        if answer.status != 202:
            refused[answer.status] += 1
    client.close()


def run(running: Demo, *, calls: int = CALLS, damage_every: float = 0.1) -> Figures:
    """Make the calls while files are damaged; return the results."""
    figures, over = Figures(calls=calls), threading.Event()
    chance = random.Random(SEED)
    subscriber = Subscriber()
    subscribe(running, subscriber.url)
    now = int(time.time())

    def keep_damaging() -> None:
        while not over.wait(chance.expovariate(1 / damage_every)):
            if what := damage(running.broker, chance):
                figures.damaged[what] += 1
            figures.longest_queue = max(figures.longest_queue, len(running.queue()))

    callers = [
        threading.Thread(
            target=call,
            args=(running.port, running.token, range(first, calls, CONNECTIONS)),
            kwargs={"now": now, "refused": figures.refused},
        )
        for first in range(CONNECTIONS)
    ]
    damager = threading.Thread(target=keep_damaging)
    began = time.monotonic()
    for thread in (damager, *callers):
        thread.start()
    while any(thread.is_alive() for thread in callers):
        time.sleep(0.2)
        figures.restarted += [name for name in running.died() if name not in figures.restarted]
    figures.seconds = time.monotonic() - began
    over.set()
    damager.join()
    within = max(DRAIN_AT_LEAST, DRAIN_PER_THOUSAND * calls / 1000)
    with contextlib.suppress(AssertionError):
        wait(
            lambda: len(subscriber.heard) >= calls and not running.queue(),
            within=within,
            failed=running.is_over,
            why=str,
        )
    figures.drained_after = time.monotonic() - began - figures.seconds
    figures.restarted += [name for name in running.died() if name not in figures.restarted]
    figures.events = running.ask(f"SELECT count(*) FROM audiences_event WHERE name = '{EVENT}'")
    figures.told, figures.queue_left = len(subscriber.heard), len(running.queue())
    damaged = running.broker / "damaged"
    figures.moved_aside = len(list(damaged.iterdir())) if damaged.exists() else 0
    subscriber.close()
    return figures


def subscribe(running: Demo, url: str) -> None:
    """Subscribe this URL to all events."""
    client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {running.token}"}
    client.request("POST", "/api/subscriptions", json.dumps({"url": url, "topics": ["event.created"]}), headers)
    answer = client.getresponse()
    assert answer.status == 200, answer.read()
    client.close()


def main(arguments: list[str]) -> int:
    """Run the benchmark, print the results, and return 1 on a failure."""
    with demo() as running:
        figures = run(running, calls=int(arguments[0]) if arguments else CALLS)
    print(figures)
    for what in figures.failures():
        print(f"WRONG: {what}", file=sys.stderr)
    return 1 if figures.failures() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
