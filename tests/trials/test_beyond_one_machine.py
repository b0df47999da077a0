"""Two of each role, with its own PostgreSQL 15 and Redis: no customer is missed, none gets a message twice."""

import json
import os
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest

from config import supervisor
from config.supervisor import Program, Running
from tests.support import servers
from tests.support.mail_catcher import Catcher
from tests.support.programs import manage, wait_for
from tests.support.servers import Servers

pytestmark = [pytest.mark.long, pytest.mark.processes, pytest.mark.xdist_group("servers")]

CUSTOMERS = 200
CONNECTIONS = 4
# A busy machine may need all of it; it usually takes a fraction.
PATIENCE = 100
CELERY = ("celery", "-A", "config")
# Settings and a message that staff make once: every task each second, and a live message to everyone.
PREPARE = """
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks
from django.contrib.auth.models import User
from audiences.models import Audience, Integration
from delivery.matching import launch
from messaging import authoring
from messaging.models import Message, Sender
second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
names = ("Send due messages", "Match ongoing messages")
assert PeriodicTask.objects.filter(name__in=names).update(interval=second, expire_seconds=30) == 2
PeriodicTasks.update_changed()
at = timezone.now()
sender = Sender.objects.create(name="Ada", email="ada@acme.example")
message = Message.objects.create(title="Welcome", sender=sender, audience=Audience.objects.create())
authoring.revise(message, subject="Hi {{ first_name }}", body="<p>Welcome</p>", by=None, at=at)
launch.launch(message, at=at)
user = User.objects.create(username="the shop")
print(Integration.objects.create(user=user, name="the shop")[1])
"""


@pytest.fixture(scope="module")
def there() -> Iterator[Servers]:
    """The servers. Without them the test is skipped, unless REQUIRE_SERVERS=1."""
    if lacking := servers.missing():
        words = f"{lacking} of Debian's packages is not installed: apt-get install postgresql redis-server"
        (pytest.fail if os.environ.get("REQUIRE_SERVERS") == "1" else pytest.skip)(words)
    with servers.running() as found:
        yield found


@pytest.fixture
def catcher() -> Iterator[Catcher]:
    catcher = Catcher()
    yield catcher
    catcher.close()


@pytest.fixture
def environment(there: Servers, catcher: Catcher, tmp_path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("EMAIL_", "CELERY_", "BROKER_"))}
    return {
        **ours,
        "DATABASE_URL": there.postgres,
        "CELERY_BROKER_URL": f"{there.redis}/0",
        "CACHE_URL": f"{there.redis}/1",
        "SECRET_KEY": "a-key-of-a-test-that-is-long-enough-for-what-it-is-for",
        "FLIGHTS_DIR": str(tmp_path / "in-hand"),
        "EMAIL_URL": f"smtp://127.0.0.1:{catcher.port}",
        "EMAIL_CONNECTIONS": str(CONNECTIONS),
        "WORKER_CONCURRENCY": "1",
        "API_RATE_LIMIT": "0",
    }


@pytest.fixture
def start(environment, tmp_path) -> Iterator[Callable[..., Running]]:
    """Start a program in a process group of its own; none outlives the test."""
    with ExitStack() as ends:

        def start(name: str, *command: str) -> Running:
            program = Program(name=name, command=(sys.executable, "-m", *command))
            running = supervisor.start(program, environment=environment, logs=tmp_path)
            ends.callback(supervisor.wait_until_gone, [running], seconds=5)
            ends.callback(running.kill)
            return running

        yield start


def asked(url: str, *, token: str, sends: dict[str, object] | None = None) -> dict[str, object]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps(sends).encode() if sends is not None else None
    request = urllib.request.Request(url, body, headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=20) as answered:  # noqa: S310
        return json.load(answered)


def test_two_of_each_role_send_each_customer_one_email_though_a_worker_is_killed(
    environment, there: Servers, catcher: Catcher, start
):
    servers.migrate(environment)
    token = manage(environment, "shell", "--verbosity", "0", "-c", PREPARE).split()[-1]
    ports = [servers.free_port(), servers.free_port()]
    webs = [
        start(f"web-{port}", "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", "--threads", "4",
              "--no-control-socket")
        for port in ports
    ]  # fmt: skip
    beats = [start(f"beat-{n}", *CELERY, "beat", "--pidfile", "") for n in (1, 2)]
    workers = [start(f"worker-{n}", *CELERY, "worker", "--hostname", f"{n}@%h", "--loglevel", "INFO") for n in (1, 2)]
    running = [*webs, *beats, *workers]

    def register(number: int) -> object:
        customer = {"user_id": f"u{number}", "email": f"u{number}@x.example", "name": f"User {number}"}
        return asked(f"http://127.0.0.1:{ports[number % 2]}/api/users", token=token, sends=customer)["id"]

    def answers(port: int) -> bool:
        try:
            return asked(f"http://127.0.0.1:{port}/api/me", token=token)["type"] == "integration"
        except OSError:
            return False

    wait_for(lambda: all(map(answers, ports)), within=PATIENCE, logs=webs, what="The web does not answer.")
    with ThreadPoolExecutor(4) as browsers:
        assert len(set(browsers.map(register, range(CUSTOMERS)))) == CUSTOMERS
    wait_for(lambda: len(catcher.caught) >= 30, within=PATIENCE, logs=running, what="Nothing is sent.")
    workers[0].kill()

    def settled() -> bool:
        counts = records(there)
        return sum(counts.values()) == CUSTOMERS and counts["sent"] + counts["uncertain"] == CUSTOMERS

    wait_for(settled, within=PATIENCE, logs=running, what="It does not come to an end.")

    counts, got = records(there), Counter(mail.recipient for mail in catcher.caught)
    assert set(got.values()) == {1}, "Somebody got it twice."
    assert counts["uncertain"] <= CONNECTIONS
    assert counts["sent"] <= len(got) <= CUSTOMERS
    for one in (*webs, *beats, workers[1]):
        assert not one.is_gone, one.log.read_text()[-2000:]
        assert "Traceback" not in one.log.read_text(), one.log.read_text()[-3000:]


def records(there: Servers) -> Counter[str]:
    with psycopg.connect(there.postgres) as connection:
        return Counter(dict(connection.execute("SELECT status, count(*) FROM delivery_deliveryrecord GROUP BY 1")))
