"""Machine failures on purpose: `make machine-trial`. It needs root on Linux, iproute2, PostgreSQL and Redis of Debian.

Two worker machines are network namespaces with folders of their own; PostgreSQL, Redis, beat and the mail server are on
a third. One machine is cut off, killed, stopped, given a wrong clock or a full disk in the middle of a send. The other
one must continue within 10 seconds, and no customer may receive two emails. docs/machine-trial.md has the results.
"""

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
# Installed packages have a module `tests`, too, which would come before this folder.
sys.modules["tests"] = ModuleType("tests")
sys.modules["tests"].__path__ = [str(ROOT / "tests")]

from benchmarks.sinks.faulty import FaultySink  # noqa: E402
from config import supervisor  # noqa: E402
from config.supervisor import Program, Running  # noqa: E402
from tests.support import network, servers  # noqa: E402
from tests.support.network import Namespace  # noqa: E402
from tests.support.programs import manage  # noqa: E402

DOCS = ROOT / "docs"
# Emails of each failure, and how many are sent before it.
EMAILS, BEFORE = 600, 60
CONNECTIONS, IN_FLIGHT = 4, 10
# Emails per second if the send is throttled; one dispatcher then does all of it.
PER_SECOND = 20
# In seconds: how long the mail server takes to answer, the lease of a record in this trial, and the aim.
DELAY, LEASE, CONTINUES_WITHIN = 0.1, 20, 10
CUT_SHORT, CUT_LONG, STOPPED = 12, 45, 40
WRONG_CLOCK = 600
SETTLED_WITHIN = 180
DATABASE_SIZE, JOURNAL_SIZE = "500m", "64k"
SECRET_KEY = "the-key-of-a-trial-that-is-long-enough-to-be-one"  # noqa: S105 - of the trial's own database
HEAD = (
    "| failure | emails | continued after | sessions ended | in hand | uncertain | accepted of these | lost | twice |"
)


@dataclass(slots=True, kw_only=True)
class Failure:
    """One failure and its effects. `continued` and `ended`: seconds after it; None if they are not asked for."""

    what: str
    emails: int = 0
    continued: float | None = None
    ended: float | None = None
    in_hand: int = 0
    found: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def has_passed(self) -> bool:
        late = any(seconds is not None and seconds > CONTINUES_WITHIN for seconds in (self.continued, self.ended))
        return not late and not (self.found["lost"] or self.found["twice"]) and self.found["uncertain"] <= self.in_hand

    def line(self) -> str:
        first, second = (f"{s:.1f} s" if s is not None else "" for s in (self.continued, self.ended))
        found = self.found
        numbers = (self.in_hand, found["uncertain"], found["uncertain, accepted"], found["lost"], found["twice"])
        return f"| {self.what} | {self.emails:,} | {first} | {second} | {' | '.join(map(str, numbers))} |"


@dataclass(slots=True)
class Machine:
    """A worker machine: its namespace, its folder, and its worker, which is started again like a service."""

    namespace: Namespace
    folder: Path
    environment: dict[str, str]
    worker: Running | None = None

    def start(self, *, ahead: float = 0) -> Running:
        module = (sys.executable, "-m", "benchmarks.machine_worker", "--ahead", str(ahead), "--lease", str(LEASE))
        celery = ("--hostname", f"{self.folder.name}@%h", "--loglevel", "INFO")
        program = Program(name="worker", command=(*self.namespace.prefix, *module, *celery))
        own = {"FLIGHTS_DIR": str(self.folder / "in-hand"), "MEDIA_ROOT": str(self.folder / "files")}
        self.worker = supervisor.start(program, environment=self.environment | own, logs=self.folder, log_mode="ab")
        return self.worker

    def send_signal(self, number: int) -> None:
        """Send a signal to the worker with all its processes."""
        assert self.worker is not None
        os.killpg(self.worker.process.pid, number)

    def kill(self) -> None:
        if self.worker is not None:
            self.worker.kill()
            supervisor.wait_until_gone([self.worker], seconds=5)

    @property
    def log(self) -> str:
        return (self.folder / "worker.log").read_text(errors="replace")


@dataclass(slots=True)
class Trial:
    """The machines, the servers, and the failures so far."""

    first: Machine
    second: Machine
    sink: FaultySink
    failures: list[Failure] = field(default_factory=list)
    message: int = 0

    def wait(self, condition: Callable[[], object], *, within: float = SETTLED_WITHIN, what: str) -> None:
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(
                    f"--- {machine.folder}\n{machine.log[-3000:]}" for machine in (self.first, self.second)
                )
                raise SystemExit(f"{what}\n{statuses(self.message)}\n{logs}")
            time.sleep(0.05)

    def accepted_from(self, machine: Machine, *, since: float) -> list[float]:
        """Return when emails of a machine were accepted."""
        return [at for at, sender in self.sink.accepted if at > since and sender == machine.namespace.address]

    def start(self, machine: Machine, **options: float) -> None:
        started = len(machine.log) if (machine.folder / "worker.log").exists() else 0
        machine.start(**options)
        self.wait(lambda: " ready." in machine.log[started:], what="A worker does not start.")

    def restart(self, *, first_ahead: float = 0) -> None:
        """Start both machines' workers anew, the first one first."""
        for machine in (self.first, self.second):
            machine.kill()
        self.start(self.first, ahead=first_ahead)
        self.start(self.second)

    def launch(self, *, throttled: bool) -> Failure:
        """Launch a message, and return once it is being sent; by the first machine alone if it is throttled."""
        self.sink.accepted.clear()
        self.sink.message_ids.clear()
        throttle_to(PER_SECOND if throttled else None)
        if throttled:
            self.second.kill()
        self.message = launch_message(f"Trial {len(self.failures) + 1}")
        both = [self.first] if throttled else [self.first, self.second]
        self.wait(
            lambda: all(len(self.accepted_from(machine, since=0)) >= BEFORE / len(both) for machine in both),
            what="A machine does not send.",
        )
        if throttled:
            self.start(self.second)
        failure = Failure(what="", emails=EMAILS)
        self.failures.append(failure)
        return failure

    def await_continuation(self, failure: Failure, *, since: float) -> None:
        """Wait until the second machine sends, and note after how many seconds it did."""
        self.wait(lambda: self.accepted_from(self.second, since=since), what="The other machine does not continue.")
        failure.continued = self.accepted_from(self.second, since=since)[0] - since

    def await_end_of_sessions(self, failure: Failure, *, since: float) -> None:
        """Wait until the server has ended the sessions of the first machine."""
        self.wait(lambda: not sessions_from(self.first.namespace.address), what="Its sessions do not end.")
        failure.ended = time.monotonic() - since

    def finish(self, failure: Failure) -> None:
        """Let the rest be sent, and count the results."""
        throttle_to(None)
        self.wait(
            lambda: not statuses(self.message).keys() & {"waiting", "sending"},
            what="The message does not come to an end.",
        )
        failure.found = verdict(self.message, self.sink.message_ids)
        print(failure.line(), *failure.notes, sep="\n", flush=True)


# Failures


def cut_off_both_sending(trial: Trial) -> None:
    failure = trial.launch(throttled=False)
    failure.what = f"cut off for {CUT_SHORT} s while both send"
    cut_off(trial, failure, seconds=CUT_SHORT)


def cut_off_beyond_the_lease(trial: Trial) -> None:
    failure = trial.launch(throttled=True)
    failure.what = f"cut off for {CUT_LONG} s, beyond its lease, while it sends alone"
    cut_off(trial, failure, seconds=CUT_LONG)


def cut_off(trial: Trial, failure: Failure, *, seconds: float) -> None:
    began = time.monotonic()
    network.cut_off(trial.first.namespace)
    failure.in_hand = most_in_hand(trial.message)
    trial.await_continuation(failure, since=began)
    trial.await_end_of_sessions(failure, since=began)
    trial.wait(lambda: time.monotonic() - began > seconds, what="Time stands still.")
    network.rejoin(trial.first.namespace)
    trial.finish(failure)


def killed_and_cut_off(trial: Trial) -> None:
    failure = trial.launch(throttled=True)
    failure.what = "killed and cut off while it sends alone, then a restart"
    began = time.monotonic()
    network.cut_off(trial.first.namespace)
    failure.in_hand = most_in_hand(trial.message)
    trial.first.kill()
    trial.await_continuation(failure, since=began)
    trial.await_end_of_sessions(failure, since=began)
    network.rejoin(trial.first.namespace)
    trial.first.start()
    trial.finish(failure)


def stopped_beyond_the_lease(trial: Trial) -> None:
    failure = trial.launch(throttled=True)
    failure.what = f"stopped (SIGSTOP) for {STOPPED} s, beyond its lease, then continued"
    began = time.monotonic()
    trial.first.send_signal(signal.SIGSTOP)
    failure.in_hand = most_in_hand(trial.message)
    trial.await_continuation(failure, since=began)
    trial.wait(lambda: time.monotonic() - began > STOPPED, what="Time stands still.")
    trial.first.send_signal(signal.SIGCONT)
    trial.finish(failure)


def clock_ahead(trial: Trial) -> None:
    wrong_clock(trial, WRONG_CLOCK)


def clock_behind(trial: Trial) -> None:
    wrong_clock(trial, -WRONG_CLOCK)


def wrong_clock(trial: Trial, ahead: float) -> None:
    """Let the first machine have a wrong clock while both send, and await the alarm."""
    from delivery.models import Alarm

    Alarm.objects.all().delete()
    trial.restart(first_ahead=ahead)
    began = time.monotonic()
    failure = trial.launch(throttled=False)
    failure.what = f"a clock that is {abs(ahead) // 60} minutes {'ahead' if ahead > 0 else 'behind'}, while both send"
    trial.wait(lambda: Alarm.objects.filter(kind="clock", over_at=None).exists(), what="No alarm is raised.")
    words = Alarm.objects.get(kind="clock", over_at=None).description
    failure.notes.append(f"Alarm {time.monotonic() - began:.0f} s after the start: {words}")
    trial.finish(failure)
    trial.restart()


def full_journal_disk(trial: Trial) -> None:
    """Let the first machine send while the disk of its journals is full, and free it after a while."""
    with small_disk(trial.first.folder / "in-hand", size=JOURNAL_SIZE) as disk:
        trial.restart()
        written = len(trial.first.log)
        # Before the first journal: one in use is written again and again, and keeps its space.
        fill(disk)
        failure = trial.launch(throttled=False)
        failure.what = "the disk of the journals is full"
        failure.notes.append(f"Log: {first_line(trial.first.log[written:], 'journal')}")
        (disk / "filler").unlink()
        freed_at = time.monotonic()
        trial.wait(
            lambda: any(path.stat().st_size for path in disk.glob("*.flight")), what="No journal is written again."
        )
        failure.notes.append(f"Journals were written again {time.monotonic() - freed_at:.0f} s after space was free.")
        trial.finish(failure)
        trial.first.kill()
    trial.restart()


def full_database_disk(trial: Trial) -> None:
    """Fill the disk of the database during a send, and free it after a while."""
    failure = trial.launch(throttled=False)
    failure.what = "the disk of the database is full for 20 s"
    written = len(trial.first.log)
    disk = DATABASE_DISKS[0]
    fill(disk)
    full_at = time.monotonic()
    failure.in_hand = 2 * (CONNECTIONS + IN_FLIGHT)
    trial.wait(lambda: time.monotonic() - full_at > 20, what="Time stands still.")
    (disk / "filler").unlink()
    freed_at = time.monotonic()
    failure.notes.append(f"Log: {first_line(trial.first.log[written:], 'No space left') or 'the server wrote no page'}")
    trial.finish(failure)
    failure.notes.append(f"All was settled {time.monotonic() - freed_at:.0f} s after space was free.")


FAILURES = (
    cut_off_both_sending,
    cut_off_beyond_the_lease,
    killed_and_cut_off,
    stopped_beyond_the_lease,
    clock_ahead,
    clock_behind,
    full_journal_disk,
    full_database_disk,
)
DATABASE_DISKS: list[Path] = []


# Disks


@contextmanager
def small_disk(place: Path, *, size: str) -> Iterator[Path]:
    """Mount a file system in memory of this size."""
    place.mkdir(parents=True, exist_ok=True)
    network.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(place))
    try:
        yield place
    finally:
        network.run("umount", "--lazy", str(place))


def fill(disk: Path) -> None:
    """Write until no byte is free."""
    with suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def first_line(log: str, words: str) -> str:
    return next((line.strip() for line in log.splitlines() if words in line), "")


# The database


def throttle_to(per_second: int | None) -> None:
    from delivery.models import Pace

    Pace.objects.all().delete()
    if per_second is not None:
        Pace.objects.create(channel="email", per_second=per_second)


def launch_message(title: str) -> int:
    """Launch a one-off to everyone as the console does, and return its key."""
    from audiences.clock import database_clock
    from audiences.models import Audience
    from delivery import tasks
    from delivery.matching import launch
    from messaging import authoring
    from messaging.models import Message, Sender

    at = database_clock()
    sender = Sender.objects.first()
    message = Message.objects.create(
        title=title, sender=sender, audience=Audience.objects.create(), send_type="one_off"
    )
    authoring.revise(message, subject="Hello", body="<p>Welcome</p>", by=None, at=at)
    assert launch.launch(message, at=at) == EMAILS
    tasks.enqueue_dispatch()
    return message.pk


def statuses(message: int) -> Counter[str]:
    from delivery.models import DeliveryRecord

    return Counter(DeliveryRecord.objects.filter(message=message).values_list("status", flat=True))


def most_in_hand(message: int) -> int:
    """Return the most records of one worker that are claimed: those that may become uncertain."""
    from delivery.models import DeliveryRecord

    return DeliveryRecord.objects.filter(message=message, status="sending").count()


def sessions_from(address: str) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE client_addr = %s", [address])
        return cursor.fetchone()[0]


def verdict(message: int, taken: Counter[str]) -> Counter[str]:
    """Compare the records of a message with the emails that the mail server accepted."""
    from delivery import rendering
    from delivery.models import DeliveryRecord
    from delivery.monitoring import invariants

    found: Counter[str] = Counter()
    for pk, status in DeliveryRecord.objects.filter(message=message).values_list("pk", "status"):
        times = taken[rendering.message_id(pk)]
        found["twice"] += times > 1
        found["lost"] += (status == "sent" and not times) or (status == "failed" and times > 0)
        found["uncertain"] += status == "uncertain"
        found["uncertain, accepted"] += status == "uncertain" and times > 0
    found["lost"] += len(list(invariants.find_violations(at=datetime.now(UTC))))
    return found


def prepare() -> None:
    from django.utils import timezone

    from audiences.models import Customer
    from messaging.models import Sender

    at = timezone.now()
    Customer.objects.bulk_create(
        Customer(user_id=f"u{n}", email=f"u{n}@x.example", created_at=at, updated_at=at) for n in range(EMAILS)
    )
    Sender.objects.create(name="Ada", email="ada@acme.example")


# The trial


def run(chosen: list[str]) -> int:
    """Run the failures, or those with these names, and return whether all passed."""
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="outbound-machines-", dir="/var/tmp")))
        folder.chmod(0o755)
        disk = ends.enter_context(small_disk(folder / "database", size=DATABASE_SIZE))
        DATABASE_DISKS.append(disk)
        one, two = ends.enter_context(network.two_namespaces())
        # Little WAL, so that the disk is small.
        there = ends.enter_context(
            servers.running(network.HOST, within=disk, settings=("max_wal_size=64MB", "min_wal_size=32MB"))
        )
        sink = FaultySink(seed=1, host=network.HOST, delay=DELAY)
        ends.callback(sink.close)
        ignored = ("EMAIL_", "CELERY_", "BROKER_", "DATABASE_")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(ignored)},
            "DATABASE_URL": there.postgres,
            "CELERY_BROKER_URL": f"{there.redis}/0",
            "SECRET_KEY": SECRET_KEY,
            "EMAIL_URL": f"smtp://{network.HOST}:{sink.port}",
            "EMAIL_TIMEOUT": "5",
            "EMAIL_CONNECTIONS": str(CONNECTIONS),
            "IN_FLIGHT": str(IN_FLIGHT),
            "WORKER_CONCURRENCY": "2",
            "WATCH_EVERY": "10",
        }
        os.environ.update(environment)
        manage(environment, "migrate", "--verbosity", "0")
        import django

        django.setup()
        prepare()
        for name in ("one", "two"):
            (folder / name).mkdir()
        trial = Trial(Machine(one, folder / "one", environment), Machine(two, folder / "two", environment), sink)
        ends.callback(trial.second.kill)
        ends.callback(trial.first.kill)
        beat = Program(name="beat", command=(sys.executable, "-m", "celery", "-A", "config", "beat", "--pidfile", ""))
        ends.enter_context(supervisor.programs([beat], environment=environment, logs=folder))
        trial.restart()
        print(HEAD, flush=True)
        for fail in FAILURES:
            if not chosen or fail.__name__ in chosen:
                fail(trial)
    if not chosen:
        write_report(trial.failures)
    return 0 if all(failure.has_passed for failure in trial.failures) else 1


def write_report(failures: list[Failure]) -> None:
    table = [HEAD, "|---|" + "---:|" * (HEAD.count("|") - 2), *(failure.line() for failure in failures)]
    notes = [f"- {failure.what[0].upper()}{failure.what[1:]}. {note}" for failure in failures for note in failure.notes]
    text = f"""# Machine trial

`make machine-trial` writes this page. Two worker machines are network namespaces with folders of their own;
PostgreSQL 15, Redis, beat and a mail server are on a third one. One worker machine fails in the middle of a send.

Measured on {datetime.now(UTC):%-d %b %Y}: {EMAILS} emails for each failure, {CONNECTIONS} connections, batches of at
most {IN_FLIGHT}, {DELAY * 1000:.0f} ms per email, and a lease of {LEASE} seconds instead of five minutes.

{chr(10).join(table)}

{chr(10).join(notes)}

*Continued*: from the failure to the next email of the other machine; the aim is {CONTINUES_WITHIN} seconds.
*Sessions ended*: until PostgreSQL ended the sessions of the machine.
*In hand*: records that were claimed when it failed, by both machines; at most these may become uncertain.
*Accepted of these*: uncertain ones that the mail server had accepted.
*Lost*: recorded as sent but not accepted, recorded as failed but accepted, or a violated invariant.
*Twice*: accepted more than once.

A machine is cut off by hardware addresses that no machine has, so that neither side is told. A wrong clock is that of
all processes of its worker, moved by time_machine; clocks that are never set run on.

After a power failure the journals are not trusted, as the machine has started anew: then all records in hand become
uncertain once the lease has ended, as in the second row.
"""
    (DOCS / "machine-trial.md").write_text(text)
    print(text)


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    if problem := network.refusal() or servers.missing():
        print(f"The trial cannot run here: {problem}", file=sys.stderr)
        return 1
    # Also then the programs end, and the namespaces and disks are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
