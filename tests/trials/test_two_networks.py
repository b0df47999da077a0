"""A worker on each of two networks, with PostgreSQL, the broker and the mail server on a third machine."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import psycopg
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from config import supervisor
from config.supervisor import Program, Running
from tests.support import network, rabbitmq, servers
from tests.support.mail_catcher import Catcher
from tests.support.network import Namespace
from tests.support.programs import manage, wait_for
from tests.support.servers import Servers

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("servers")]

CUSTOMERS = 300
PATIENCE = 100
SECRET_KEY = "a-key-of-a-test-that-is-long-enough-for-what-it-is-for"
# The sweep each second instead of each minute, and a message that is live for everyone.
PREPARE = f"""
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks
from audiences.models import Audience, Customer
from delivery.matching import launch
from messaging import authoring
from messaging.models import Message, Sender
second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
assert PeriodicTask.objects.filter(name="Send due messages").update(interval=second, expire_seconds=30) == 1
PeriodicTasks.update_changed()
at = timezone.now()
Customer.objects.bulk_create(
    (
        Customer(user_id=f"u{{n}}", email=f"u{{n}}@x.example", created_at=at, updated_at=at)
        for n in range({CUSTOMERS})
    ),
    ignore_conflicts=True,
)
sender = Sender.objects.create(name="Ada", email="ada@acme.example")
message = Message.objects.create(
    title="Welcome", sender=sender, audience=Audience.objects.create(), send_type="ongoing"
)
authoring.revise(message, subject="Hello", body="<p>Welcome</p>", by=None, at=at)
launch.launch(message, at=at)
print(message.pk)
"""


@dataclass
class PatientCatcher(Catcher):
    """Answers no email before both addresses have sent one, so that neither worker does all the work."""

    addresses: Counter[str] = field(default_factory=Counter)
    both: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.addresses[session.peer[0]] += 1
        if len(self.addresses) == 2:
            self.both.set()
        await asyncio.wait_for(self.both.wait(), PATIENCE)
        return await super().handle_DATA(server, session, envelope)


def require(problem: str) -> None:
    """Skip the test for this reason, or fail if the servers are required."""
    if problem:
        (pytest.fail if os.environ.get("REQUIRE_SERVERS") == "1" else pytest.skip)(problem)


@pytest.fixture(scope="module")
def namespaces() -> Iterator[list[Namespace]]:
    require(network.refusal())
    with network.two_namespaces() as found:
        yield found


@pytest.fixture(scope="module")
def there(namespaces) -> Iterator[Servers]:
    lacking = servers.missing()
    require(f"{lacking} is not installed: apt-get install postgresql redis-server" if lacking else "")
    with servers.running(network.HOST) as found:
        servers.migrate({**os.environ, "DATABASE_URL": found.postgres, "SECRET_KEY": SECRET_KEY})
        yield found


@pytest.fixture(params=["Redis", "RabbitMQ"])
def broker(request, there: Servers) -> Iterator[str]:
    if request.param == "Redis":
        yield f"{there.redis}/0"
        return
    require("" if rabbitmq.PROGRAM.exists() else "RabbitMQ is not installed: apt-get install rabbitmq-server")
    with rabbitmq.running(network.HOST) as url:
        yield url


@pytest.fixture
def catcher(namespaces) -> Iterator[PatientCatcher]:
    catcher = PatientCatcher(host=network.HOST)
    yield catcher
    catcher.close()


@pytest.fixture
def environment_of(there: Servers) -> Callable[[str, Catcher], dict[str, str]]:
    def environment_of(broker: str, catcher: Catcher) -> dict[str, str]:
        ignored = ("EMAIL_", "CELERY_", "BROKER_")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(ignored)},
            "DATABASE_URL": there.postgres,
            "CELERY_BROKER_URL": broker,
            "SECRET_KEY": SECRET_KEY,
            "EMAIL_URL": f"smtp://{network.HOST}:{catcher.port}",
            "WORKER_CONCURRENCY": "1",
        }

    return environment_of


@pytest.fixture
def environment(environment_of, broker: str, catcher: PatientCatcher) -> dict[str, str]:
    return environment_of(broker, catcher)


@pytest.fixture
def start(environment, start_in) -> Callable[..., Running]:
    return partial(start_in, environment)


@pytest.fixture
def start_in(tmp_path) -> Iterator[Callable[..., Running]]:
    """Start a Celery program in a namespace, with a folder of its own, as on a machine of its own."""
    with ExitStack() as ends:

        def start(environment: dict[str, str], namespace: Namespace, *command: str) -> Running:
            folder = tmp_path / f"{command[0]}-{namespace.name}"
            folder.mkdir()
            program = Program(
                name=folder.name,
                command=(*namespace.prefix, sys.executable, "-m", "celery", "-A", "config", *command),
            )
            there = {**environment, "FLIGHTS_DIR": str(folder / "in-hand")}
            running = supervisor.start(program, environment=there, logs=tmp_path)
            ends.callback(supervisor.wait_until_gone, [running], seconds=5)
            ends.callback(running.kill)
            return running

        yield start


def test_workers_on_two_networks_share_a_message_and_each_customer_gets_one_email(
    namespaces: list[Namespace], there: Servers, catcher: PatientCatcher, environment, start
):
    message = int(manage(environment, "shell", "--verbosity", "0", "-c", PREPARE).split()[-1])
    first, second = namespaces
    running = [
        start(first, "worker", "--hostname", "first@%h", "--loglevel", "INFO"),
        start(second, "worker", "--hostname", "second@%h", "--loglevel", "INFO"),
        start(first, "beat", "--pidfile", ""),
    ]

    wait_for(
        lambda: statuses(there, message) == {"sent": CUSTOMERS},
        within=PATIENCE,
        logs=running,
        what="The message does not come to an end.",
    )

    assert Counter(mail.recipient for mail in catcher.caught) == {f"u{n}@x.example": 1 for n in range(CUSTOMERS)}
    assert catcher.addresses.keys() == {first.address, second.address}
    for one in running:
        assert "Traceback" not in one.log.read_text(), one.log.read_text()[-3000:]


@dataclass
class SlowCatcher(Catcher):
    """Takes 50 milliseconds for an email, and records when it accepted one, and from which address."""

    accepted: list[tuple[float, str]] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        await asyncio.sleep(0.05)
        self.accepted.append((time.monotonic(), session.peer[0]))
        return await super().handle_DATA(server, session, envelope)

    def has_accepted_from(self, address: str, *, since: float, number: int = 1) -> bool:
        return sum(at > since and peer == address for at, peer in self.accepted) >= number


def test_other_worker_continues_within_10_seconds_after_its_machine_was_cut_off_and_nobody_gets_two(
    namespaces: list[Namespace], there: Servers, environment_of, start_in
):
    """The cut-off worker did all the sending: the other one was idle, and no beat runs that could wake it."""
    catcher = SlowCatcher(host=network.HOST)
    environment = {
        **environment_of(f"{there.redis}/1", catcher), "EMAIL_TIMEOUT": "4", "EMAIL_CONNECTIONS": "4", "IN_FLIGHT": "10"
    }  # fmt: skip
    message = int(
        manage(environment, "shell", "--verbosity", "0", "-c", PREPARE.replace("ongoing", "one_off")).split()[-1]
    )
    one, other = namespaces
    try:
        lost = start_in(environment, one, "worker", "--hostname", "one@%h", "--loglevel", "INFO")
        logs = [lost]
        wait = partial(wait_for, within=PATIENCE, logs=logs)
        wait(lambda: catcher.has_accepted_from(one.address, since=0, number=20), what="The first does not send.")
        # A throttled channel asks for no further dispatcher, so the second worker has nothing to do.
        throttle_to(there, per_second=20)
        logs.append(start_in(environment, other, "worker", "--hostname", "other@%h", "--loglevel", "INFO"))
        wait(lambda: "ready" in logs[-1].log.read_text(), what="The second does not start.")
        assert not catcher.has_accepted_from(other.address, since=0)
        network.cut_off(one)
        cut_at = time.monotonic()
        wait(lambda: catcher.has_accepted_from(other.address, since=cut_at), what="The second does not continue.")
        continued_after = time.monotonic() - cut_at
        wait(lambda: not sessions_from(there, one.address), what="Its sessions do not end.")
        ended_after = time.monotonic() - cut_at
        throttle_to(there, per_second=None)
        in_hand = statuses(there, message).get("sending", 0)
        network.rejoin(one)
        wait(lambda: statuses(there, message).keys() <= {"sent", "uncertain"}, what="It does not come to an end.")
    finally:
        catcher.close()

    assert continued_after <= 10, logs[-1].log.read_text()[-3000:]
    assert ended_after <= 10
    found = statuses(there, message)
    assert sum(found.values()) == CUSTOMERS
    # Those in hand: at most one for each connection, and one batch.
    assert found.get("uncertain", 0) <= min(in_hand, 4)
    times = Counter(mail.recipient for mail in catcher.caught)
    assert max(times.values()) == 1
    assert found["sent"] <= len(times) <= found["sent"] + found.get("uncertain", 0)


def throttle_to(there: Servers, *, per_second: int | None) -> None:
    with psycopg.connect(there.postgres) as connection:
        connection.execute("DELETE FROM delivery_pace")
        if per_second is not None:
            connection.execute(
                "INSERT INTO delivery_pace (channel, per_second, warm_up, taken_today) VALUES ('email', %s, '[]', 0)",
                [per_second],
            )


def sessions_from(there: Servers, address: str) -> int:
    counted = "SELECT count(*) FROM pg_stat_activity WHERE client_addr = %s"
    with psycopg.connect(there.postgres) as connection:
        return connection.execute(counted, [address]).fetchone()[0]


def test_a_namespace_reaches_the_servers_of_this_machine_and_not_its_loopback(namespaces, there: Servers):
    port = psycopg.conninfo.conninfo_to_dict(there.postgres)["port"]
    reach = f"import socket, sys; socket.create_connection((sys.argv[1], {port}), timeout=5)"
    for namespace in namespaces:
        inside = [*namespace.prefix, sys.executable, "-c", reach]
        assert network.run(*inside, network.HOST, check=False).returncode == 0
        assert "refused" in network.run(*inside, "127.0.0.1", check=False).stderr


def statuses(there: Servers, message: int) -> dict[str, int]:
    counted = "SELECT status, count(*) FROM delivery_deliveryrecord WHERE message_id = %s GROUP BY 1"
    with psycopg.connect(there.postgres) as connection:
        return dict(connection.execute(counted, [message]))
