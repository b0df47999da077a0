"""Programs of the project that work on a server of their own: `manage.py`, and waits for their effects."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from config.supervisor import Running

BASE = Path(__file__).resolve().parents[2]
# In seconds; a busy machine may need all of it.
LIMIT = 300


def manage(environment: dict[str, str], *command: str) -> str:
    """Run `manage.py` and return its output."""
    whole = [sys.executable, str(BASE / "manage.py"), *command]
    done = subprocess.run(whole, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT)  # noqa: S603
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def wait_for(holds: Callable[[], object], *, within: float, logs: list[Running], what: str) -> None:
    deadline = time.monotonic() + within
    while not holds():
        written = "\n".join(f"--- {one.program.name}\n{one.log.read_text()[-1500:]}" for one in logs)
        assert time.monotonic() < deadline, f"{what}\n{written}"
        time.sleep(0.05)
