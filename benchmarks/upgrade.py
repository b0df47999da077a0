"""An upgrade under load: `make upgrade-trial FROM=commit`. No request may fail, and nothing may be lost or sent twice.

The earlier version serves visits and the API from two web processes and sends 10,000 emails. Meanwhile this version's
migrations run, and its processes replace those of the earlier version one by one, as docs/deploy.md describes. Then one
web process and the worker go back to the earlier version and forward again. A small balancer in this process sends no
requests to a web process that is being replaced. The results are printed, and written to docs/upgrade-trial.md.
"""

import argparse
import http.client
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import psycopg

from benchmarks import trial
from benchmarks.demo_load import free_port
from benchmarks.machine import ROOT, git
from benchmarks.measure import wait_until
from benchmarks.sinks.faulty import FaultySink
from config import supervisor
from config.postgres import embedded
from config.supervisor import Program, Running

# The commit that 0.2.0 ends with: the last one that renames columns.
RELEASE = "93261bff"
DATABASE = "upgrade_trial"
CLIENTS = 4
# Seconds between two requests of one client: together about 40 a second.
PAUSE = 0.1
CALM = 3.0
# Seconds between two looks at a condition.
POLL = 0.05
TIME_LIMIT = 400.0
# Runs in the earlier version.
SET_UP = """
import json, django; django.setup()
from benchmarks import matching, trial
trial.prepare()
for number in range(5):
    matching.live_message({"match": "all", "rules": []}, channel="in_app", format="chat")
from audiences.models import Integration, Workspace
print(json.dumps([Workspace.current().identity_secret, Integration.issue(name="upgrade")[1]]))
"""
CELERY = ("-m", "celery", "-A", "config")
BACKGROUND = {
    "worker": (*CELERY, "worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO"),
    "beat": (*CELERY, "beat", "--pidfile", "", "--loglevel", "INFO", "--max-interval", "1"),
}
HEAD = "| step | seconds | requests | failed | median | 95 % within | slowest |\n|---|" + "---:|" * 6


@dataclass(frozen=True, slots=True)
class Version:
    """A checkout, with the Python that has its packages."""

    name: str
    folder: Path
    python: Path

    def run(self, *command: str, environment: dict[str, str]) -> str:
        """Run Python to its end and return what it printed."""
        done = subprocess.run(
            [self.python, *command], cwd=self.folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    def program(self, name: str, *command: str) -> Program:
        # `env -C` starts a program in another folder.
        return Program(name=f"{name}-{self.name}", command=("env", "-C", str(self.folder), str(self.python), *command))


def check_out(commit: str, into: Path) -> Version:
    """Write the files of a commit into a folder, with an environment of their own if their packages differ."""
    packed = subprocess.run(
        ["git", "archive", commit],  # noqa: S607
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as files:
        files.extractall(into, filter="data")
    lock = "requirements-demo.lock"
    if (into / lock).read_bytes() == (ROOT / lock).read_bytes():
        return Version("earlier", into, Path(sys.executable))
    print("install the packages of the earlier version", flush=True)
    subprocess.run(["make", "--silent", ".venv/.demo", f"PYTHON={sys.executable}"], cwd=into, check=True)  # noqa: S607
    return Version("earlier", into, into / ".venv/bin/python")


@dataclass(slots=True)
class Balancer:
    """The web processes in rotation, by port, with the number of requests that each is answering."""

    ports: list[int] = field(default_factory=list)
    busy: Counter[int] = field(default_factory=Counter)
    changed: threading.Condition = field(default_factory=threading.Condition)
    turn: Iterator[int] = field(default_factory=itertools.count)

    def take(self) -> int:
        with self.changed:
            port = self.ports[next(self.turn) % len(self.ports)]
            self.busy[port] += 1
            return port

    def give_back(self, port: int) -> None:
        with self.changed:
            self.busy[port] -= 1
            self.changed.notify_all()

    def add(self, port: int) -> None:
        with self.changed:
            self.ports.append(port)

    def remove(self, port: int) -> None:
        """Take a port out of rotation, and wait for the answers to its requests."""
        with self.changed:
            self.ports.remove(port)
            assert self.changed.wait_for(lambda: not self.busy[port], timeout=30)


@dataclass(slots=True)
class Load:
    """Clients that visit and call the API without a break, and what they were answered."""

    balancer: Balancer
    secret: str
    token: str
    step: str = ""
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    created: list[str] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    ends: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def run(self) -> None:
        while not self.ends.wait(PAUSE):
            number = next(self.numbers)
            who = f"u{number % trial.CUSTOMERS + 1}"
            at = int(time.time())
            match number % 4:
                case 0:
                    self.ask("POST", "/messenger/ping", {"app_id": "trial", "user": self.signed(who)})
                case 1:
                    self.ask("GET", f"/api/conversations?type=user&user_id={who}")
                case 2:
                    new = {"user_id": f"new-{number}", "email": f"new-{number}@shop.example", "name": f"New {number}"}
                    if self.ask("POST", "/api/users", new):
                        self.created.append(new["user_id"])
                case _:
                    event = {"event_name": "upgraded", "created_at": at, "user_id": who}
                    self.events[who] += self.ask("POST", "/api/events", event)

    def signed(self, who: str) -> dict[str, str]:
        from audiences import identity_verification

        return {"user_id": who, "user_hash": identity_verification.user_hash(self.secret, who)}

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> bool:
        """Send one request and record its duration; return whether it was answered with a success."""
        port, step, began = self.balancer.take(), self.step, time.perf_counter()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if path.startswith("/api/"):
            headers["Authorization"] = f"Bearer {self.token}"
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            client.request(method, path, json.dumps(body) if body else None, headers)
            answer = client.getresponse()
            text = answer.read()
            if answer.status < 300:
                return True
            problem = f"{answer.status} {text[:200]!r}"
        except (OSError, http.client.HTTPException) as error:
            problem = repr(error)
        finally:
            client.close()
            self.took[step].append(time.perf_counter() - began)
            self.balancer.give_back(port)
        self.failed[step] += 1
        self.failures.append(f"{step}: {method} {path}: {problem}")
        return False


@dataclass(slots=True)
class Upgrade:
    """The running processes, of either version."""

    environment: dict[str, str]
    logs: Path
    balancer: Balancer
    load: Load
    sink: FaultySink
    web: dict[int, Running] = field(default_factory=dict)
    background: dict[str, Running] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def start_web(self, version: Version, port: int) -> None:
        command = ("-m", "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", "4")
        program = version.program(f"web-{port}", *command, "--no-control-socket", "--log-level", "error")
        self.web[port] = supervisor.start(program, environment=self.environment, logs=self.logs)
        wait_until(lambda: answers(port), interval=POLL)
        self.balancer.add(port)

    def replace_web(self, version: Version, port: int) -> None:
        self.balancer.remove(port)
        end(self.web[port])
        self.start_web(version, port)

    def replace_background(self, version: Version, name: str) -> None:
        if name in self.background:
            end(self.background[name])
        program = version.program(name, *BACKGROUND[name])
        self.background[name] = supervisor.start(program, environment=self.environment, logs=self.logs)

    def do(self, step: str, work: Callable[[], object]) -> None:
        """Carry out a step under load, with some calm before it."""
        time.sleep(CALM)
        print(step, flush=True)
        self.load.step, began = step, time.monotonic()
        work()
        self.seconds[step] = time.monotonic() - began
        supervisor.check([*self.web.values(), *self.background.values()])

    def end_all(self) -> None:
        supervisor.stop([*self.web.values(), *self.background.values()])


def end(running: Running) -> None:
    """Stop a process as a service manager does, and wait for it as long as docs/deploy.md asks."""
    running.process.send_signal(signal.SIGTERM)
    supervisor.wait_until_gone([running], seconds=60)
    assert running.is_gone, f"{running.program.name} does not end"


def answers(port: int) -> bool:
    """Return whether a web process answers as a balancer's health check expects."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        client.request("GET", "/healthz")
        return client.getresponse().status < 600
    except OSError:
        return False
    finally:
        client.close()


def empty_database() -> str:
    """Create the trial's database anew and return its address."""
    server = embedded.SERVERS["bench"]
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    server.create(DATABASE)
    return server.url(DATABASE)


def carry_out(upgrade: Upgrade, earlier: Version, ours: Version) -> None:
    """Upgrade step by step, go back and forward again, and wait for the rest of the emails."""
    first, second = (free_port() for _ in range(2))
    for port in (first, second):
        upgrade.start_web(earlier, port)
    for name in BACKGROUND:
        upgrade.replace_background(earlier, name)
    clients = [threading.Thread(target=upgrade.load.run) for _ in range(CLIENTS)]
    upgrade.load.step = "earlier version"
    for client in clients:
        client.start()
    try:
        wait_until(lambda: upgrade.sink.taken > 100, interval=POLL)
        migrate = ("manage.py", "migrate", "--verbosity", "0")
        upgrade.do("migrate", lambda: ours.run(*migrate, environment=upgrade.environment))
        upgrade.do("earlier version, migrated database", lambda: time.sleep(2 * CALM))
        upgrade.do("first web process", lambda: upgrade.replace_web(ours, first))
        upgrade.do("second web process", lambda: upgrade.replace_web(ours, second))
        for name in BACKGROUND:
            upgrade.do(name, lambda name=name: upgrade.replace_background(ours, name))
        upgrade.do("this version", lambda: time.sleep(2 * CALM))
        for version, direction in ((earlier, "back"), (ours, "forward")):
            upgrade.do(f"web process {direction}", lambda version=version: upgrade.replace_web(version, first))
            upgrade.do(f"worker {direction}", lambda version=version: upgrade.replace_background(version, "worker"))
        upgrade.do("until all is sent", lambda: wait_until(all_is_sent, within=TIME_LIMIT, interval=POLL))
    finally:
        upgrade.load.ends.set()
        for client in clients:
            client.join()
        upgrade.end_all()


def all_is_sent() -> bool:
    return not trial.records().filter(status__in=("waiting", "sending")).exists()


def find_losses(load: Load) -> list[str]:
    """Return what was answered with a success but is not in the database."""
    from django.db.models import Count

    from audiences.models import Customer, Event

    kept = set(Customer.objects.filter(user_id__startswith="new-").values_list("user_id", flat=True))
    losses = [f"customer {who}" for who in load.created if who not in kept]
    counted = Event.objects.filter(name="upgraded").values_list("customer__user_id").annotate(number=Count("pk"))
    events = dict(counted)
    return losses + [f"event of {who}" for who, number in load.events.items() if events.get(who, 0) < number]


def report(upgrade: Upgrade, results: dict[str, int], *, commit: str) -> str:
    """Return the page of results."""
    load = upgrade.load
    lines = [HEAD]
    for step, took in load.took.items():
        p95 = statistics.quantiles(took, n=20)[-1] if len(took) > 1 else took[0]
        figures = " | ".join(f"{value * 1000:.0f} ms" for value in (statistics.median(took), p95, max(took)))
        seconds = upgrade.seconds.get(step)
        during = "" if seconds is None else f"{seconds:.1f}"
        lines.append(f"| {step} | {during} | {len(took):,} | {load.failed[step]} | {figures} |")
    found = "\n".join(f"| {what} | {number:,} |" for what, number in results.items())
    return (
        "# Upgrade trial\n\n`make upgrade-trial` writes this page. It upgrades the processes of an earlier version one"
        " by one\nunder load: visits, the API and a send. Each step is measured until the next one begins.\n\n"
        f"From {commit} to {git('rev-parse', '--short', 'HEAD')}.\n\n" + "\n".join(lines) + "\n\n"
        "| result | number |\n|---|---:|\n" + found + "\n\n"
        "*Lost* and *repeated* emails are those of [trial.md](trial.md). *Answered but missing*: customers and\n"
        "events that the API confirmed and that are not in the database.\n"
    )


def run(commit: str) -> int:
    """Run the trial, and return whether it passed."""
    folder = Path(tempfile.mkdtemp(prefix="outbound-upgrade."))
    os.environ["DATABASE_URL"] = empty_database()
    os.environ["SECRET_KEY"] = "upgrade-trial-" * 4  # Each checkout would create one of its own.

    import django

    django.setup()
    with ExitStack() as ends:
        earlier = check_out(commit, folder / "earlier")
        ours = Version("this", ROOT, Path(sys.executable))
        sink = FaultySink(seed=trial.SEED)
        ends.callback(sink.close)
        (folder / "broker").mkdir()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("EMAIL_", "CELERY_"))},
            "EMAIL_URL": f"smtp://127.0.0.1:{sink.port}",
            "BROKER_DIR": str(folder / "broker"),
            "FLIGHTS_DIR": str(folder / "in-hand"),
            "WORKER_CONCURRENCY": "1",
            "EMAIL_CONNECTIONS": str(trial.LIMIT),
            "MESSENGER_RATE_LIMIT": "0",
            "API_RATE_LIMIT": "0",
        }
        earlier.run("manage.py", "migrate", "--verbosity", "0", environment=environment)
        secret, token = json.loads(earlier.run("-c", SET_UP, environment=environment).splitlines()[-1])
        balancer = Balancer()
        upgrade = Upgrade(environment, folder, balancer, Load(balancer, secret, token), sink)
        carry_out(upgrade, earlier, ours)
        missing = find_losses(upgrade.load)
        found = trial.verdict(upgrade)
    results = {"failed requests": len(upgrade.load.failures), "answered but missing": len(missing), **found}
    text = report(upgrade, results, commit=commit)
    print(text)
    for problem in [*upgrade.load.failures[:20], *missing[:20]]:
        print(problem)
    (trial.DOCS / "upgrade-trial.md").write_text(text)
    names = ("failed requests", "answered but missing", "lost", "repeated", "unfinished", "violated invariants")
    if any(results[name] for name in names):
        print(f"The logs are in {folder}.")
        return 1
    shutil.rmtree(folder)
    return 0


def main() -> int:
    """Run the trial on an embedded database."""
    parser = argparse.ArgumentParser()
    parser.add_argument("commit", nargs="?", default=RELEASE)
    commit = parser.parse_args().commit
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.pop("DATABASE_URL", None)  # The trial empties its database, so it uses the embedded one only.
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    with embedded.database("bench"):
        return run(commit)


if __name__ == "__main__":
    sys.exit(main())
