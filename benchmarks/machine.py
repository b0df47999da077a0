"""The origin of a result: date, commit, and the machine with its database."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import psutil
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent


def today() -> str:
    return datetime.now(UTC).date().isoformat()


@cache
def commit() -> str:
    """Return the commit at the first call; "+" is added if a program differs from it."""
    name = git("rev-parse", "--short", "HEAD")
    return f"{name}+" if git("status", "--porcelain", "--", "*.py", "*.lock") else name


def git(*command: str) -> str:
    done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    return done.stdout.strip()


@cache
def description() -> str:
    """Return the machine in one line, with the version and the folder's disk of the connected database."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW data_directory")
        folder = Path(cursor.fetchone()[0])
    server = ".".join(map(str, divmod(connection.pg_version, 10_000)))
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{processor()}, {psutil.cpu_count()} cores, {memory:.0f} GiB of memory, {disk_kind(folder)},"
        f" {platform.system()} {platform.release()}, Python {platform.python_version()}, PostgreSQL {server}"
    )


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.machine()


def disk_kind(folder: Path) -> str:
    """Return the kind of disk under a folder, as the kernel reports it."""
    try:
        device = folder.stat().st_dev
        block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve(strict=True)
        # A partition has no queue of its own.
        disk = block if (block / "queue").exists() else block.parent
        turns = (disk / "queue/rotational").read_text().strip() == "1"
    except OSError:
        return "unknown disk"
    # The kernel reports every virtual disk as rotating.
    kind = "virtual disk" if disk.name.startswith(("vd", "xvd")) else "hard disk" if turns else "solid-state disk"
    return f"{kind} {disk.name}"
