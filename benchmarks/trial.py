"""Failures on purpose: `make trial`. No email may be lost, and no customer may receive two.

A real Celery worker and beat send 10,000 emails over a real socket. Meanwhile the worker is killed 30 times, PostgreSQL
is restarted twice, the broker is away for a while, and the mail server refuses, delays, hangs up and hangs. Killed
processes are restarted, as a service manager would. A seed decides the moments. The results are printed, and written to
docs/trial.md and docs/trial.json.
"""

import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.sinks.faulty import FaultySink
from config import supervisor
from config.postgres import embedded
from config.supervisor import Program, Running

SEED = 20_260_504
CUSTOMERS, EMAILS = 10_416, 10_000
KILLS = 30
AWAY = 60.0
TIME_LIMIT = 600.0
DOCS = Path(__file__).resolve().parent.parent / "docs"
LIMIT = 10
# Limits the speed, so that there is load until the last failure on any machine.
PER_SECOND = 100
# The same in the minute without a broker, in which a worker continues with its claimed records.
PER_SECOND_WITHOUT_BROKER = 40
HEAD = "| failure | times | emails meanwhile | most uncertain | uncertain | recovery, median | recovery, longest |"


@dataclass(slots=True, kw_only=True)
class Trouble:
    """One kind of failure: how often, the emails sent meanwhile, the uncertain records, and the seconds to recover."""

    what: str
    mails: int = 0
    uncertain: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def line(self) -> str:
        back = [f"{f(self.seconds):.1f} s" for f in (statistics.median, max)] if self.seconds else ["-", "-"]
        most, sum_ = max(self.uncertain, default=0), sum(self.uncertain)
        return f"| {self.what} | {len(self.uncertain)} | {self.mails:,} | {most} | {sum_} | {back[0]} | {back[1]} |"


@dataclass(slots=True)
class Trial:
    """The running parts, and their failures."""

    sink: FaultySink
    environment: dict[str, str]
    logs: Path
    server: object
    random: random.Random
    troubles: list[Trouble] = field(default_factory=list)
    programs: dict[str, Running] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def restart_ended(self) -> None:
        """Start the programs that are not running, as a service manager does."""
        for name, command in PROGRAMS.items():
            if name not in self.programs or self.programs[name].process.poll() is not None:
                program = Program(name=name, command=(sys.executable, "-m", "celery", "-A", "config", *command))
                self.programs[name] = supervisor.start(program, environment=self.environment, logs=self.logs)

    def end(self) -> None:
        for running in self.programs.values():
            running.kill()
        supervisor.wait_until_gone(list(self.programs.values()), seconds=5)

    def wait(self, condition: Callable[[], object], *, within: float) -> None:
        """Keep everything running until the condition is true."""
        deadline = time.monotonic() + within
        while not condition():
            self.restart_ended()
            if time.monotonic() > min(deadline, self.began + TIME_LIMIT):
                raise SystemExit(f"The trial took too long. The logs are in {self.logs}.")
            time.sleep(0.002)

    def wait_for_mails(self, number: int, *, within: float = 90) -> None:
        """Wait until this many more emails were accepted."""
        target = self.sink.taken + number
        self.wait(lambda: self.sink.taken >= target, within=within)

    @contextmanager
    def trouble(self, what: str) -> Iterator[Trouble]:
        """Record the effects of one failure, from its beginning until emails are sent again."""
        known = {each.what: each for each in self.troubles}
        trouble = known.get(what)
        if trouble is None:
            trouble = Trouble(what=what)
            self.troubles.append(trouble)
        before, taken = uncertain(), self.sink.taken
        began = time.monotonic()
        yield trouble
        after_it = self.sink.taken
        self.wait(lambda: self.sink.taken > after_it + 1, within=120)
        trouble.seconds.append(time.monotonic() - began)
        trouble.mails += self.sink.taken - taken
        # Wait until the records of killed workers are settled.
        self.wait(no_abandoned_records, within=60)
        trouble.uncertain.append(uncertain() - before)


PROGRAMS = {
    "worker": ("worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO"),
    "beat": ("beat", "--pidfile", "", "--loglevel", "INFO", "--max-interval", "1"),
}


def uncertain() -> int:
    """Return the number of uncertain records."""
    return records().filter(status="uncertain").count()


def no_abandoned_records() -> bool:
    """Return whether no more records are `sending` than one worker may hold."""
    return records().filter(status="sending").values("claim").distinct().count() <= 1


def records():
    """Return all delivery records of emails, with a new connection if it was lost."""
    from django.db import connection

    from delivery.models import DeliveryRecord

    connection.close_if_unusable_or_obsolete()
    return DeliveryRecord.objects.filter(message__channel="email")


# Failures


def kill(trial: Trial) -> None:
    """Kill the worker, or its sending process, mostly in the middle of an email."""
    import psutil

    for number in range(KILLS):
        trial.wait_for_mails(trial.random.randint(60, 180))
        time.sleep(trial.random.uniform(0, 0.02))
        whole = number % 3 == 0
        with trial.trouble("worker killed, with all its processes" if whole else "process of the worker killed"):
            worker = trial.programs["worker"]
            if whole:
                worker.kill()
            else:
                for child in psutil.Process(worker.process.pid).children():
                    child.kill()


def restart_postgres(trial: Trial) -> None:
    """Restart PostgreSQL while emails are sent: once normally, once as after a power cut."""
    for mode in ("fast", "immediate"):
        trial.wait_for_mails(trial.random.randint(100, 200))
        with trial.trouble("PostgreSQL restarted"):
            trial.server.stop(within=2 if mode == "fast" else 0.01)
            time.sleep(1)
            trial.server.start()


def take_broker_away(trial: Trial) -> None:
    """Stop the broker for a while, without a worker that could start."""
    trial.wait_for_mails(trial.random.randint(50, 100))
    place = Path(trial.environment["BROKER_DIR"])
    keep_to(PER_SECOND_WITHOUT_BROKER)
    with trial.trouble(f"broker unavailable for {AWAY:.0f} s"):
        place.rename(place.with_suffix(".away"))
        place.touch()
        away_until = time.monotonic() + AWAY
        trial.wait(lambda: time.monotonic() > away_until, within=AWAY + 5)
        place.unlink()
        place.with_suffix(".away").rename(place)
    keep_to(PER_SECOND)


def fault_the_sink(trial: Trial) -> None:
    """Let the mail server fail in different ways, one after the other."""
    for fault, what in FaultySink.FAULTS.items():
        trial.wait_for_mails(trial.random.randint(50, 100), within=150)
        with trial.trouble(what):
            trial.sink.fault = fault
            trial.wait(lambda: trial.sink.faults[trial.sink.fault] >= FaultySink.TIMES, within=150)
            trial.sink.fault = ""
            # Wait until its batch is settled.
            trial.wait_for_mails(2 * LIMIT)


# The trial


def prepare() -> None:
    """Fill the database and launch the one-off; the sweep runs every two seconds."""
    from django.utils import timezone
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    from audiences.models import Audience
    from benchmarks import population
    from benchmarks.email_speed import BODY, SUBJECT
    from delivery import schedule
    from delivery.matching import launch
    from messaging import authoring
    from messaging.models import Message, Sender

    population.create_population(customers=CUSTOMERS, companies=500)
    schedule.install()
    often = IntervalSchedule.objects.get_or_create(every=2, period="seconds")[0]
    PeriodicTask.objects.filter(task="delivery.tasks.sweep").update(interval=often, expire_seconds=60)
    now = timezone.now()
    everybody = Audience.objects.create(rules={"match": "all", "rules": []})
    sender = Sender.objects.create(name="Ann from Acme", email="ann@acme.example")
    message = Message.objects.create(title="Trial", sender=sender, audience=everybody, send_type="one_off")
    authoring.revise(message, subject=SUBJECT, body=BODY, by=None, at=now)
    assert launch.launch(message, at=now) == CUSTOMERS
    assert message.records.counts()["waiting"] == EMAILS
    let_go()
    keep_to(PER_SECOND)


def keep_to(per_second: int) -> None:
    """Limit the speed to this many emails per second."""
    from delivery.models import Pace

    Pace.objects.update_or_create(channel="email", defaults={"per_second": per_second})


def let_go() -> None:
    """Remove the limit: send the rest at full speed."""
    from delivery.models import Pace

    Pace.objects.all().delete()


def verdict(trial: Trial) -> dict[str, int]:
    """Return the result of each of the 10,000 emails."""
    from django.utils import timezone

    from delivery import rendering
    from delivery.monitoring import invariants

    taken = trial.sink.message_ids
    found = dict.fromkeys(("lost", "repeated", "sent", "failed", "uncertain", "uncertain, accepted", "unfinished"), 0)
    for pk, status in records().exclude(status="skipped").values_list("pk", "status"):
        times = taken[rendering.message_id(pk)]
        found["repeated"] += times > 1
        found["lost"] += status == "sent" and not times
        found["sent"] += status == "sent"
        found["failed"] += status == "failed"
        found["uncertain"] += status == "uncertain"
        found["uncertain, accepted"] += status == "uncertain" and times > 0
        found["unfinished"] += status in {"waiting", "sending"}
        # A customer whose record failed must not have received it.
        found["lost"] += status == "failed" and times > 0
    found["violated invariants"] = len(list(invariants.find_violations(at=timezone.now())))
    return found


def run() -> int:
    """Run the trial, and return whether it passed."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    prepare()
    folder = Path(tempfile.mkdtemp(prefix="outbound-trial."))
    with ExitStack() as ends:
        sink = FaultySink(seed=SEED)
        ends.callback(sink.close)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("EMAIL_", "CELERY_"))},
            "EMAIL_URL": f"smtp://127.0.0.1:{sink.port}",
            "EMAIL_TIMEOUT": "2",
            "BROKER_DIR": str(folder / "broker"),
            "FLIGHTS_DIR": str(folder / "in-hand"),
            "WORKER_CONCURRENCY": "1",
            "EMAIL_CONNECTIONS": str(LIMIT),
        }
        (folder / "broker").mkdir()
        server = embedded.SERVERS["bench"]
        trial = Trial(sink, environment, folder, server, random.Random(SEED))
        ends.callback(trial.end)
        for step in (kill, restart_postgres, take_broker_away, fault_the_sink):
            print(f"{time.monotonic() - trial.began:6.1f} s  {step.__doc__}", flush=True)
            step(trial)
        let_go()
        trial.wait(lambda: not records().filter(status__in=("waiting", "sending")).exists(), within=TIME_LIMIT)
        took = time.monotonic() - trial.began
        trial.end()
        found = verdict(trial)
    report(trial.troubles, found, took=took)
    shutil.rmtree(folder, ignore_errors=True)
    kills = [most for each in trial.troubles if "killed" in each.what for most in each.uncertain]
    went_well = not any(found[name] for name in ("lost", "repeated", "unfinished", "violated invariants"))
    return 0 if went_well and max(kills) <= LIMIT else 1


def report(troubles: list[Trouble], found: dict[str, int], *, took: float) -> None:
    """Print the tables, and write them to docs/."""
    table = [HEAD, "|---|" + "---:|" * (HEAD.count("|") - 2), *(each.line() for each in troubles)]
    result = [f"| {what} | {number:,} |" for what, number in found.items()]
    text = (
        "# Trial\n\n`make trial` writes this page: the results of a real worker while everything around it fails.\n\n"
        f"{EMAILS:,} emails, {KILLS} kills, seed {SEED}, {LIMIT} connections; {took:.0f} seconds.\n\n"
        "| result | emails |\n|---|---:|\n" + "\n".join(result) + "\n\n" + "\n".join(table) + "\n\n"
        "*Lost*: recorded as sent but not accepted by the mail server, or recorded as failed but accepted.\n"
        "*Repeated*: accepted more than once. *Uncertain*: the result cannot be known, so only staff send\n"
        "it again. *Recovery*: from the start of the failure to the next email, including the start of a\n"
        "killed worker or two seconds of a sweep.\n"
    )
    print(text)
    DOCS.mkdir(exist_ok=True)
    (DOCS / "trial.md").write_text(text)
    facts = {"seed": SEED, "emails": EMAILS, "kills": KILLS, "connections": LIMIT, "seconds": round(took, 1)}
    as_json = {**facts, "found": found, "troubles": [asdict(each) for each in troubles]}
    (DOCS / "trial.json").write_text(json.dumps(as_json, indent=1) + "\n")


def main() -> int:
    """Run the trial on an embedded database."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.pop("DATABASE_URL", None)  # The trial empties its database, so it uses the embedded one only.
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    with embedded.database("bench"):
        import django

        django.setup()
        return run()


if __name__ == "__main__":
    sys.exit(main())
