"""`make demo` in a terminal, with Ctrl-C and with a closed window."""

import contextlib
import json
import os
import pty
import re
import shutil
import smtplib
import socket
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from benchmarks import demo_load
from config.postgres import embedded

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[3]
WITHIN = 400


class Terminal:
    """A terminal of its own with the demo in it."""

    def __init__(self, clone: Path, port: int, **deployment: str):
        environment = {**os.environ, **deployment}
        self.output = ""
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            os.chdir(clone)
            termios.tcsetwinsize(0, (40, 120))
            os.execve(sys.executable, [sys.executable, "-m", "config.demo"], {**environment, "PORT": str(port)})  # noqa: S606

    def read_until(self, words: str) -> str:
        """Read the screen until the words appear."""
        deadline = time.monotonic() + WITHIN
        with contextlib.suppress(OSError):
            while words not in self.output and time.monotonic() < deadline:
                self.output += os.read(self.screen, 4096).decode(errors="replace")
        assert words in self.output, self.output
        return self.output

    def press_ctrl_c(self) -> None:
        os.write(self.screen, b"\x03")

    def close(self) -> None:
        os.close(self.screen)

    def wait(self) -> int:
        """Wait for the demo's end, and return its exit code; it has ten seconds."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        raise AssertionError("The demo still runs after ten seconds.")


def processes_of(clone: Path) -> list[psutil.Process]:
    """Return every process that runs in the clone, and its database."""
    data = str((clone / ".data" / "postgres-main").resolve())
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(clone) or process.cwd() == data or data in process.cmdline():
                found.append(process)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url: str, *, token: str = "") -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return answer.read().decode()


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / "clone"
    folder.mkdir()
    # Large enough for every kind of customer, and faster to fill.
    demo_load.copy_code(folder, customers=1_000)
    yield folder
    for process in processes_of(folder):
        process.kill()
    shutil.rmtree((folder / ".data" / "postgres-main").resolve().parent, ignore_errors=True)


def mail_port(clone: Path) -> int:
    """Return the port of this demo's mail server."""
    (found,) = [one.cmdline() for one in processes_of(clone) if "config.demo.mail" in one.cmdline()]
    return int(found[-1])


@pytest.fixture
def deployment() -> Iterator[dict[str, str]]:
    """The variables of a deployment, whose database is real and empty. Values that are not addresses are secrets."""
    database = f"deployment_{os.getpid()}"
    server = urlsplit(os.environ["DATABASE_URL"])._replace(path="/postgres").geturl()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}")
        yield {
            "ALLOWED_HOSTS": "outbound.invalid",
            "ANYMAIL_POSTMARK_SERVER_TOKEN": "secretword",
            "BROKER_DIR": "/nowhere/secretword",
            "CACHE_URL": "redis://:secretword@cache.invalid/1",
            "CELERY_BROKER_URL": "redis://:secretword@broker.invalid/0",
            "DATABASE_URL": urlsplit(server)._replace(path=f"/{database}").geturl(),
            "DJANGO_SETTINGS_MODULE": "deployed.settings",
            "EMAIL_BACKEND": "nowhere.EmailBackend",
            "EMAIL_URL": "smtp+tls://someone:secretword@mail.invalid:587",
            "FCM_CREDENTIALS": "{secretword",
            "FLIGHTS_DIR": "/nowhere/secretword",
            "GUNICORN_CMD_ARGS": "--config /nowhere/secretword.py",
            "HTTPS": "true",
            "MEDIA_ROOT": "/nowhere/secretword",
            "PGHOSTADDR": "127.0.0.1",
            "PUBLIC_URL": "https://outbound.invalid",
            "SECRET_KEY": "secretword",
        }
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)")


def tables_in(address: str) -> int:
    with psycopg.connect(address) as connection:
        return connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()[0]


def worker_of(clone: Path) -> psutil.Process | None:
    """Return the demo's worker, without its pool."""
    parents = {}
    for process in processes_of(clone):
        # A child of the killed worker may end meanwhile.
        with contextlib.suppress(psutil.Error):
            if "worker" in process.cmdline():
                parents[process] = process.ppid()
    pids = {process.pid for process in parents}
    return next((process for process, parent in parents.items() if parent not in pids), None)


@pytest.mark.long
def test_demo_ignores_a_deployment_receives_email_loses_nothing_under_load_ends_and_continues(clone, deployment):
    port = free_port()
    first = Terminal(clone, port, API_RATE_LIMIT="0", **deployment)
    said = first.read_until("Ctrl-C ends the demo.")
    named = re.search(r"ignores these environment variables:\s+([A-Z_, \r\n]+)\r\n", said)[1]
    assert set(deployment) <= set(re.split(r"[,\s]+", named))
    assert "secretword" not in said
    assert ".invalid" not in said
    assert tables_in(deployment["DATABASE_URL"]) == 0
    assert "1000/1000" in said
    assert len(re.findall(r"^  \d\. ", said, flags=re.MULTILINE)) == 5
    token = re.search(r"An API token +(\w+)", said)[1]
    assert {"mail", "web", "worker", "beat"} == {path.stem for path in (clone / ".data" / "log").iterdir()}

    for message in json.loads(get(f"http://127.0.0.1:{port}/api/outbound", token=token))["messages"]:
        assert 0 < message["counts"]["opened"] < message["counts"]["sent"], message

    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = "Grüße", "sam@fernwood.example", "Zoë <zoe@mail.example>"
    mail.set_content("plainly")
    mail.add_alternative("<p>in <b>HTML</b></p><script>alert(1)</script>", subtype="html")
    with smtplib.SMTP("127.0.0.1", mail_port(clone)) as smtp:
        smtp.send_message(mail, to_addrs=["zoe@mail.example"])
    listed = get(f"http://127.0.0.1:{port}/demo/mail/?to=ZOE@")
    assert "Grüße" in listed
    assert "0 emails" in get(f"http://127.0.0.1:{port}/demo/mail/?to=nobody")
    shown = get(f"http://127.0.0.1:{port}" + re.search(r'href="(/demo/mail/[^"?]+/)"', listed)[1])
    assert "plainly" in shown
    assert 'sandbox="allow-popups' in shown
    assert "<script>" not in shown

    # A small run of the benchmark: calls of the API while the broker's files are damaged at random.
    figures = demo_load.run(demo_load.Demo(clone, pid=first.pid, port=port), calls=400, damage_every=0.03)
    assert figures.failures() == []
    assert figures.damaged.total() > 20
    assert figures.moved_aside > 10

    killed = worker_of(clone)
    killed.kill()
    first.read_until("The worker ended by itself (code -9) and is started again.")
    deadline = time.monotonic() + WITHIN
    while (now := worker_of(clone)) is None or now == killed:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    running = processes_of(clone)
    assert len(running) > 6
    first.press_ctrl_c()
    assert first.wait() == 0
    assert psutil.wait_procs(running, timeout=1)[1] == []
    assert processes_of(clone) == []

    second = Terminal(clone, port)
    said = second.read_until("Ctrl-C ends the demo.")
    assert "1000/1000" not in said
    assert token in said
    assert "Grüße" in get(f"http://127.0.0.1:{port}/demo/mail/?to=zoe")

    running = processes_of(clone)
    second.close()
    second.wait()
    assert psutil.wait_procs(running, timeout=1)[1] == []
    assert processes_of(clone) == []


def test_port_in_use_is_reported_before_anything_starts(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        demo = subprocess.run(
            [sys.executable, "-m", "config.demo"],
            cwd=tmp_path,
            env={**environment, "PORT": port},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    assert demo.returncode == 1
    assert f"Port {port} is in use" in demo.stderr
    assert not (tmp_path / ".data").exists()


OWN_PEOPLE = """
import json, os, subprocess, sys
from config.postgres import embedded
with embedded.database():
    import django
    django.setup()
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.core.management import CommandError, call_command
    from django.utils import timezone
    from audiences.models import Customer, Integration
    if sys.argv[1:]:
        psql = [embedded.SERVERS["main"].programs / "psql", "--quiet", "--set=ON_ERROR_STOP=1"]
        command = [*psql, "--file", sys.argv[1], os.environ["DATABASE_URL"]]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    else:
        call_command("migrate", verbosity=0)
    now = timezone.now()
    Customer.objects.create(user_id="u1", email="ann@x.example", created_at=now, updated_at=now)
    said, token = [], settings.DATA_DIR / "demo_token"

    def count_users():
        return User.objects.filter(username__in=["demo", "support"]).count()

    def fill():
        try:
            call_command("fill_demo")
        except CommandError as refused:
            said.append([str(refused), count_users()])
        else:
            said.append(["", count_users()])

    fill()
    token.write_text("of another database")
    fill()
    token.write_text(Integration.issue(name="The demo")[1])  # As a demo before there were marks.
    fill()
    token.unlink()
    fill()
    print(json.dumps(said))
"""


@pytest.fixture
def dump(tmp_path) -> list[Path]:
    """A dump of the migrated database of the tests, which takes less time than migrations; none on another server."""
    if not (template := os.environ.get("TEST_DATABASE_TEMPLATE")):
        return []
    server = embedded.SERVERS["test"]
    command = [server.programs / "pg_dump", "--no-owner", "--file", tmp_path / "dump.sql", server.url(template)]
    subprocess.run(command, check=True)  # noqa: S603
    return [tmp_path / "dump.sql"]


def test_embedded_database_with_other_customers_is_refused_and_an_earlier_demo_is_recognised(clone, dump):
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "BROKER_DIR")}
    environment["DJANGO_SETTINGS_MODULE"] = "config.settings"

    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", OWN_PEOPLE, *dump],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    first, second, before_marks, marked = json.loads(done.stdout.splitlines()[-1])
    assert "customers that the demo did not create" in first[0]
    assert first[1] == 0
    assert second == first
    assert before_marks == marked == ["", 2]
