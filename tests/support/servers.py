"""The oldest supported PostgreSQL (from 15) and the Redis of Debian's packages, in a folder of their own."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import psycopg
import redis

from tests.support.programs import LIMIT, manage

# Debian 12 has 15. If later versions are installed too, the oldest is tested.
PACKAGES = [Path(f"/usr/lib/postgresql/{version}/bin") for version in range(15, 30)]
POSTGRES = next((found for found in PACKAGES if (found / "postgres").exists()), None)
REDIS = shutil.which("redis-server")
PASSWORD = "p@ss:word"
# Every account reaches it, and the path of a socket must be short.
SHORT_PATH = Path("/var/tmp")  # noqa: S108 - each run has a folder with a random name
# The migrated database of the first servers of this process, as pg_dump writes it.
dumps: list[bytes] = []


def missing() -> str:
    """Return the names of the servers that are not installed; "" if both are."""
    lacking = [name for name, there in (("PostgreSQL", POSTGRES), ("Redis", REDIS)) if not there]
    return " and ".join(lacking)


@dataclass(frozen=True, slots=True)
class Servers:
    """The addresses of the servers."""

    postgres: str
    redis: str


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(host: str = "127.0.0.1", *, within: Path = SHORT_PATH, settings: Sequence[str] = ()) -> Iterator[Servers]:
    """Start PostgreSQL and Redis on one address of this machine, with an empty database and all files in a folder."""
    assert POSTGRES is not None and REDIS is not None  # noqa: PT018 - `missing` says so
    folder = Path(mkdtemp(prefix="outbound-servers-", dir=within))
    # PostgreSQL refuses root.
    account = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    as_whom = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str | Path) -> None:
        with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
            started.append(
                subprocess.Popen(  # noqa: S603
                    command, cwd="/", stdout=log, stderr=log, start_new_session=True, **as_whom
                )
            )

    data = folder / "data"
    initdb = (POSTGRES / "initdb", "-D", data, "-U", "outbound", "--auth=scram-sha-256", "--no-sync")
    try:
        locale = ("--encoding=UTF8", "--locale=C.UTF-8", f"--pwfile={folder / 'password'}")
        subprocess.run([*initdb, *locale], cwd="/", check=True, capture_output=True, **as_whom)  # noqa: S603
        (data / "pg_hba.conf").write_text("host all all all scram-sha-256\n")
        port, redis_port = free_port(host), free_port(host)
        forgetful = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", f"listen_addresses={host}")
        options = [option for setting in (*forgetful, *settings) for option in ("-c", setting)]
        start(POSTGRES / "postgres", "-D", data, "-p", str(port), "-k", folder, *options)
        start(REDIS, "--port", str(redis_port), "--bind", host, "--protected-mode", "no", "--save", "", "--dir", folder)
        address = f"outbound:{PASSWORD.replace('@', '%40').replace(':', '%3A')}@{host}:{port}"
        answers(lambda: psycopg.connect(f"postgresql://{address}/postgres").close(), psycopg.OperationalError)
        answers(lambda: redis.Redis(host, redis_port).ping(), redis.ConnectionError)
        with psycopg.connect(f"postgresql://{address}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE console")
        yield Servers(f"postgres://{address}/console", f"redis://{host}:{redis_port}")
    finally:
        for server in started:
            # SIGINT stops PostgreSQL and Redis at once and cleanly.
            with contextlib.suppress(ProcessLookupError):
                server.send_signal(2)
        for server in started:
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def migrate(environment: dict[str, str]) -> None:
    """Migrate the empty database of DATABASE_URL. Later ones get a dump of the first, which takes less time."""
    assert POSTGRES is not None
    url = environment["DATABASE_URL"]
    if dumps:
        psql = [POSTGRES / "psql", "--quiet", "--set=ON_ERROR_STOP=1", url]
        subprocess.run(psql, input=dumps[0], stdout=subprocess.DEVNULL, check=True, timeout=LIMIT)  # noqa: S603
        return
    manage(environment, "migrate", "--verbosity", "0")
    dump = subprocess.run([POSTGRES / "pg_dump", "--no-owner", url], stdout=subprocess.PIPE, check=True, timeout=LIMIT)  # noqa: S603
    dumps.append(dump.stdout)


def answers(
    ask: Callable[[], object], wrong: type[Exception] | tuple[type[Exception], ...], *, within: float = 20
) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + within
    while True:
        try:
            ask()
        except wrong:
            assert time.monotonic() < deadline, "A server does not start."
            time.sleep(0.05)
        else:
            return
