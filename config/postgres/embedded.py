"""Embedded PostgreSQL servers of this clone, which run while a process uses them.

The first process starts a server, the last one stops it. File locks decide this, and the kernel releases the locks of a
killed process. So the next process takes over a server that a killed process left, and stops it in the end.
"""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import parse_qs, urlsplit

from config.postgres.server import NoServer, Server

__all__ = ["NoServer", "database", "endings_raise", "is_embedded", "undisturbed", "url"]

HOME = Path(__file__).resolve().parents[2] / ".data"
DATABASE = "outbound"

COMMON = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "jit": "off",
    "random_page_cost": "1.1",
    "effective_io_concurrency": "64",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

SERVERS = {
    server.name: server
    for server in (
        Server(name="main", port=5432, home=HOME, settings=COMMON),
        Server(name="test", port=5433, home=HOME, settings={**COMMON, **FORGETFUL}, disposable=True),
        Server(name="bench", port=5434, home=HOME, settings=COMMON),
    )
}

# Bytes of the lock file: one for starting and stopping the server, one for using it.
STARTING, USING = 0, 1
ENDINGS = (signal.SIGTERM, signal.SIGHUP)


def url(name: str = "main") -> str:
    """Return the address of this clone's database; it is the same whether or not the server runs."""
    return SERVERS[name].url(DATABASE)


def is_embedded(url: str) -> bool:
    """Return whether the address is that of an embedded server of this clone."""
    hosts = parse_qs(urlsplit(url).query).get("host", [])
    return hosts == [str(SERVERS["main"].folder)]


@contextmanager
def database(name: str = "main") -> Iterator[None]:
    """Provide the database of DATABASE_URL, or else an embedded one, for this process and its children."""
    if os.environ.get("DATABASE_URL"):
        yield
        return
    with endings_raise(), using(SERVERS[name]):
        os.environ["DATABASE_URL"] = url(name)
        try:
            yield
        finally:
            del os.environ["DATABASE_URL"]


@contextmanager
def using(server: Server) -> Iterator[None]:
    """Run the server during the block; stop it after the block if no other process uses it."""
    server.home.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(server.home / f"postgres-{server.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX, 1, STARTING)
        if server.disposable and is_unused_by_others(lock):
            server.delete_orphan_data()
        fcntl.lockf(lock, fcntl.LOCK_SH, 1, USING)
        try:
            server.start()
            server.create(DATABASE)
            fcntl.lockf(lock, fcntl.LOCK_UN, 1, STARTING)
            yield
        finally:
            with undisturbed():
                fcntl.lockf(lock, fcntl.LOCK_EX, 1, STARTING)
                if is_unused_by_others(lock):
                    server.stop()
    finally:
        os.close(lock)


def is_unused_by_others(lock: int) -> bool:
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, USING)
    except BlockingIOError:
        return False
    return True


@contextmanager
def endings_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit, so that everything that was started is stopped, as with Ctrl-C."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # A signal that is ignored (nohup) or handled stays so.
    ours = [ending for ending in ENDINGS if signal.getsignal(ending) is signal.SIG_DFL]
    for ending in ours:
        signal.signal(ending, end)
    try:
        yield
    finally:
        for ending in ours:
            signal.signal(ending, signal.SIG_DFL)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore signals during the block, so that a second Ctrl-C does not interrupt the stopping."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *ENDINGS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
