"""`make demo` as its user meets it: in a terminal, with Ctrl-C, and with a window that is closed."""

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
from email.message import EmailMessage
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[3]
CODE = ("config", "audiences", "messaging", "delivery", "outbound", "templates", "static", "manage.py")
WITHIN = 90


class Terminal:
    """A terminal of its own with the demo in it."""

    def __init__(self, clone: Path, port: int):
        environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "EMAIL_URL")}
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
    """Every process that works in the clone, and its database."""
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
    for name in CODE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    yield folder
    for process in processes_of(folder):
        process.kill()
    shutil.rmtree((folder / ".data" / "postgres-main").resolve().parent, ignore_errors=True)


def mail_port(clone: Path) -> int:
    """Where this demo's mail server listens."""
    (found,) = [one.cmdline() for one in processes_of(clone) if "config.demo.mail" in one.cmdline()]
    return int(found[-1])


def test_demo_starts_takes_mail_ends_and_goes_on(clone):
    port = free_port()
    first = Terminal(clone, port)
    said = first.read_until("Ctrl-C ends it.")
    assert "5000/5000" in said
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
    assert "0 mails" in get(f"http://127.0.0.1:{port}/demo/mail/?to=nobody")
    shown = get(f"http://127.0.0.1:{port}" + re.search(r'href="(/demo/mail/[^"?]+/)"', listed)[1])
    assert "plainly" in shown
    assert 'sandbox="allow-popups' in shown
    assert "<script>" not in shown

    running = processes_of(clone)
    assert len(running) > 6
    first.press_ctrl_c()
    assert first.wait() == 0
    assert psutil.wait_procs(running, timeout=1)[1] == []
    assert processes_of(clone) == []

    second = Terminal(clone, port)
    said = second.read_until("Ctrl-C ends it.")
    assert "5000/5000" not in said
    assert token in said
    assert "Grüße" in get(f"http://127.0.0.1:{port}/demo/mail/?to=zoe")

    running = processes_of(clone)
    second.close()
    second.wait()
    assert psutil.wait_procs(running, timeout=1)[1] == []
    assert processes_of(clone) == []


def test_port_in_use_is_said_before_anything_is_started(tmp_path):
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
