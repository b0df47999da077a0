"""The demo: one company's worth of everything, on this machine alone. `python -m config.demo`, or `make demo`."""

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
  or as              support, password demo (a Sender: all but the settings)
Mail it sent is at   {url}/demo/mail/
A customer's website {url}/demo/site/
An API token         {token}
Logs are in          {logs}

Five things to try
  1. Open Outbound and see the three onboarding messages that are live, and whom they reached.
  2. Compose an email, choose Ongoing, add a filter such as "Plan is pro", set it live, read it at /demo/mail/,
     and reply to it there: the reply is in the Inbox.
  3. Open a customer and choose Send a message at the top right: it goes to that one person at once.
  4. Let somebody sign up, and the welcome message follows:
       curl -u {token}: {url}/api/users -H "Content-Type: application/json" \\
         -d '{{"user_id": "newcomer", "email": "newcomer@example.com", "name": "Noor", "signed_up_at": {now}}}'
       curl -u {token}: "{url}/api/conversations?type=user&user_id=newcomer"
  5. Pause a message, change its filters, and resume it. The way it sends stays as it was set live.

Ctrl-C ends it. `make demo` goes on from here; `rm -rf .data` first starts afresh.
"""

IGNORED = """\
The demo has a database, a broker and a mail server of its own. These variables of the environment are ignored:
  {names}"""


class CannotStart(RuntimeError):
    """Something outside the demo is in its way."""


def main() -> int:
    """Run the demo until somebody ends it or a part of it breaks; return the exit code."""
    os.chdir(BASE)
    # A shell starts what runs in the background deaf to Ctrl-C; the demo has nothing to lose by hearing it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if ignored := drop_deployment(os.environ):
        say(IGNORED.format(names=", ".join(ignored)))
    try:
        port = chosen_port(os.environ.get("PORT", "8000"))
        with embedded.endings_raise(), embedded.database():
            run(port=port)
    except (CannotStart, embedded.NoServer, supervisor.Ended) as wrong:
        say(f"{wrong}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as failed:
        return failed.returncode
    except KeyboardInterrupt:
        return 0
    return 0


def run(*, port: int) -> None:
    """Prepare what is missing, start everything, say where to look, and stay until the end."""
    mail_port = MAIL_PORT if is_free(MAIL_PORT) else any_free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "DEMO": "1", "PUBLIC_URL": url, "EMAIL_URL": f"smtp://127.0.0.1:{mail_port}"}
    # What is answered to on /demo/mail/ comes back from here.
    environment["INBOUND_DOMAIN"] = "reply.fernwood.example"
    say("Preparing the database ...")
    for command in (["migrate", "--verbosity", "0"], ["fill_demo"]):
        subprocess.run([sys.executable, "manage.py", *command], env=environment, check=True)  # noqa: S603
    say("Starting web, worker, beat and mail ...")
    wanted = everything(port=port, mail_port=mail_port)
    with supervisor.programs(wanted, environment=environment, logs=DATA / "log") as running:
        wait_for(url, running)
        say(WELCOME.format(url=url, token=TOKEN.read_text(), logs=DATA / "log", now=int(time.time())))
        try:
            supervisor.watch(running, environment=environment)
        finally:
            say("Ending ...")


def everything(*, port: int, mail_port: int) -> list[Program]:
    """Name what the demo runs, besides the database."""
    celery = ("celery", "-A", "config")
    web = ("gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "4")
    commands = {
        "mail": ("config.demo.mail", f"{mail_port}"),
        "web": (*web, "--no-control-socket", "--graceful-timeout", "3", "--access-logfile", "-"),
        "worker": (*celery, "worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO"),
        "beat": (*celery, "beat", "--pidfile", "", "--loglevel", "INFO"),
    }
    return [Program(name=name, command=(sys.executable, "-m", *command)) for name, command in commands.items()]


def wait_for(url: str, running: list[supervisor.Running]) -> None:
    """Wait until the web answers."""
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline:
        supervisor.check(running)
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/admin/login/", timeout=5):  # noqa: S310
            return
        time.sleep(0.1)
    raise CannotStart(f"The web does not answer. What it said is in {DATA / 'log' / 'web.log'}.")


def chosen_port(wanted: str) -> int:
    """Return the port to serve at; CannotStart where it is none, or somebody else's."""
    if not wanted.isdecimal() or not 0 < int(wanted) < 65536:
        raise CannotStart(f"PORT={wanted} is no port. Choose one between 1024 and 65535.")
    if not is_free(int(wanted)):
        raise CannotStart(f"Port {wanted} is in use, maybe by another demo. Choose another: make demo PORT=8001")
    return int(wanted)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As gunicorn will: a port that only waits out its last connections is free.
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


def say(words: str, *, file: TextIO | None = None) -> None:
    """Tell the terminal, if it is still there."""
    with contextlib.suppress(OSError):
        print(words, file=file, flush=True)


if __name__ == "__main__":
    sys.exit(main())
