"""Metrics for Prometheus: durations of matching and sending. Measured only if METRICS_TOKEN is set.

Each process writes its own files in METRICS_DIR; any web process of the machine adds them up.
"""

import os
import re
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from django.conf import settings

if TYPE_CHECKING:
    from prometheus_client import Histogram

FILE = re.compile(r"\w+_(\d+)\.db")
FILE_RETENTION = 24 * 3600
BUCKETS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60)


@cache
def histograms() -> "dict[str, Histogram]":
    Path(settings.METRICS_DIR).mkdir(mode=0o700, parents=True, exist_ok=True)
    # The library reads this when it is first imported, hence the import below.
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", settings.METRICS_DIR)
    from prometheus_client import Histogram

    return {
        "hand_over": Histogram(
            "outbound_hand_over_seconds",
            "Time to send one copy to a mail server or provider",
            ["channel"],
            buckets=BUCKETS,
        ),
        "match": Histogram(
            "outbound_match_seconds", "Time of one matching round of an ongoing message", ["message"], buckets=BUCKETS
        ),
    }


def observe_duration(what: str, began: float, of: object) -> None:
    """Record how long something took since `began` (by `time.perf_counter`)."""
    if settings.METRICS_TOKEN:
        histograms()[what].labels(str(of)).observe(time.perf_counter() - began)


def render_metrics() -> bytes:
    """Return the metrics of all processes on this machine in the Prometheus format."""
    histograms()
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)


def delete_dead_process_files(*, now: float) -> None:
    """Delete the files of processes that ended a day ago or longer; Prometheus treats that as a restart."""
    folder = Path(settings.METRICS_DIR)
    for path in folder.glob("*.db") if settings.METRICS_TOKEN else ():
        named = FILE.fullmatch(path.name)
        if named and now - path.stat().st_mtime > FILE_RETENTION and not psutil.pid_exists(int(named[1])):
            path.unlink(missing_ok=True)
