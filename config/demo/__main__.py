"""The demo: all processes and a company with sample data, on this machine only (`make demo`)."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TextIO

from config import supervisor
from config.demo.environment import drop_deployment
from config.postgres import embedded
from config.supervisor import Program

BASE = Path(__file__).resolve().parent.parent.parent
DATA = BASE / ".data"
TOKEN = DATA / "demo_token"
MAIL_PORT = 1025
START_WITHIN = 180

WELCOME = """
Outbound is at       {url}/admin/
  log in as          demo, password demo (may do everything)
  or as              support, password demo (a Sender: everything except the settings)
Sent emails          {url}/demo/mail/
A customer's website {url}/demo/site/
An API token         {token}
Logs are in          {logs}

Five things to try
  1. Open Outbound and see the three live onboarding messages and their recipients.
  2. Compose an email, choose Ongoing, add a filter such as "Plan is pro", set it live, read it at /demo/mail/,
     and reply to it there: the reply is in the Inbox.
  3. Open a customer and choose Send a message at the top right: it goes to that one person at once.
  4. Let a customer sign up; the welcome message follows:
       curl -u {token}: {url}/api/users -H "Content-Type: application/json" \\
         -d '{{"user_id": "newcomer", "email": "newcomer@example.com", "name": "Noor", "signed_up_at": {now}}}'
       curl -u {token}: "{url}/api/conversations?type=user&user_id=newcomer"
  5. Pause a message, change its filters, and resume it. Its send type is locked.

Ctrl-C ends the demo. `make demo` continues with this data; run `rm -rf .data` first to start again.
"""

IGNORED = """\
The demo has its own database, broker and mail server. It ignores these environment variables:
  {names}"""


class CannotStart(RuntimeError):
    """The demo cannot start; the message says why."""


def main() -> int:
    """Run the demo until it is stopped or a part fails; return the exit code."""
    os.chdir(BASE)
    # A shell starts background processes with Ctrl-C ignored; the demo always handles it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if ignored := drop_deployment(os.environ):
        print_safely(IGNORED.format(names=", ".join(ignored)))
    try:
        port = chosen_port(os.environ.get("PORT", "8000"))
        with embedded.endings_raise(), embedded.database():
            run(port=port)
    except (CannotStart, embedded.NoServer, supervisor.Ended) as wrong:
        print_safely(f"{wrong}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as failed:
        return failed.returncode
    except KeyboardInterrupt:
        return 0
    return 0


def run(*, port: int) -> None:
    """Prepare the database, start all programs, print the welcome text, and supervise the programs."""
    mail_port = MAIL_PORT if is_free(MAIL_PORT) else any_free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "DEMO": "1", "PUBLIC_URL": url, "EMAIL_URL": f"smtp://127.0.0.1:{mail_port}"}
    # The replies that are written on /demo/mail/ come back to this domain.
    environment["INBOUND_DOMAIN"] = "reply.fernwood.example"
    print_safely("Preparing the database ...")
    for command in (["migrate", "--verbosity", "0"], ["fill_demo"]):
        subprocess.run([sys.executable, "manage.py", *command], env=environment, check=True)  # noqa: S603
    print_safely("Starting web, worker, beat and mail ...")
    wanted = demo_programs(port=port, mail_port=mail_port)
    with supervisor.programs(wanted, environment=environment, logs=DATA / "log") as running:
        wait_for_web(url, running)
        print_safely(WELCOME.format(url=url, token=TOKEN.read_text(), logs=DATA / "log", now=int(time.time())))
        try:
            supervisor.watch(running, environment=environment)
        finally:
            print_safely("Ending ...")


def demo_programs(*, port: int, mail_port: int) -> list[Program]:
    """Return the programs of the demo, besides the database."""
    celery = ("celery", "-A", "config")
    web = ("gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "4")
    commands = {
        "mail": ("config.demo.mail", f"{mail_port}"),
        "web": (*web, "--no-control-socket", "--graceful-timeout", "3", "--access-logfile", "-"),
        "worker": (*celery, "worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO"),
        "beat": (*celery, "beat", "--pidfile", "", "--loglevel", "INFO"),
    }
    return [Program(name=name, command=(sys.executable, "-m", *command)) for name, command in commands.items()]


def wait_for_web(url: str, running: list[supervisor.Running]) -> None:
    """Wait until the web server answers; raise CannotStart if it does not."""
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline:
        supervisor.check(running)
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/admin/login/", timeout=5):  # noqa: S310
            return
        time.sleep(0.1)
    raise CannotStart(f"The web server does not answer. Its log is {DATA / 'log' / 'web.log'}.")


def chosen_port(wanted: str) -> int:
    """Return the port number; raise CannotStart if it is invalid or in use."""
    if not wanted.isdecimal() or not 0 < int(wanted) < 65536:
        raise CannotStart(f"PORT={wanted} is not a valid port. Choose one between 1024 and 65535.")
    if not is_free(int(wanted)):
        raise CannotStart(f"Port {wanted} is in use, maybe by another demo. Choose another: make demo PORT=8001")
    return int(wanted)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As gunicorn does: a port with connections in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def print_safely(text: str, *, file: TextIO | None = None) -> None:
    """Print to the terminal, unless it is closed."""
    with contextlib.suppress(OSError):
        print(text, file=file, flush=True)


if __name__ == "__main__":
    sys.exit(main())
