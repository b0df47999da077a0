"""A default Celery worker on the embedded broker, for benchmarks that measure from an event to its effect."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config import supervisor
from config.celery import app
from config.supervisor import Program

COMMAND = (sys.executable, "-m", "celery", "-A", "config", "worker", "--without-gossip", "--without-mingle")


@contextmanager
def default_worker(**environment: str) -> Iterator[None]:
    """Run a worker on an empty broker; this process queues tasks for it."""
    app.control.purge()
    worker = Program(name="worker", command=COMMAND)
    its = {**os.environ, "LOG_LEVEL": "ERROR", **environment}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as logs,
        supervisor.programs([worker], environment=its, logs=Path(logs)) as running,
    ):
        yield
        supervisor.check(running)
