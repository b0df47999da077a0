"""The embedded PostgreSQL, in separate clones, started and stopped by real processes."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest

from config.postgres import embedded
from config.postgres import server as postgres_server

pytestmark = pytest.mark.processes

USE = """
import os, sys
from config.postgres import embedded
with embedded.database(os.environ.get("SERVER", "main")):
    print(os.environ["DATABASE_URL"], flush=True)
    sys.stdin.read()
"""


class Clone:
    """A folder that holds the two modules the database needs."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "config" / "postgres").mkdir(parents=True)
        for module in (embedded, postgres_server):
            shutil.copy(module.__file__, folder / "config" / "postgres")
        self.server = postgres_server.Server(name="main", port=5432, home=folder / ".data", settings={})
        self.users = []

    def use(self, **environment: str) -> subprocess.Popen:
        """Start a process that uses the database until it is stopped."""
        inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        user = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", USE],
            cwd=self.folder,
            env={**inherited, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.users.append(user)
        return user

    def leave(self) -> None:
        """End all processes that use it."""
        for user in self.users:
            user.kill()
            user.wait()
            for pipe in (user.stdin, user.stdout, user.stderr):
                pipe.close()
        self.users.clear()
        for name in ("main", "test"):
            replace(self.server, name=name).stop()

    def remove(self) -> None:
        self.leave()
        shutil.rmtree(self.server.folder, ignore_errors=True)


def url(user: subprocess.Popen) -> str:
    """Wait until the database is there."""
    return user.stdout.readline().strip()


def end(user: subprocess.Popen) -> int:
    user.stdin.close()
    return user.wait(timeout=20)


def run_in(address: str, statement: str) -> list:
    with psycopg.connect(address) as connection:
        return connection.execute(statement).fetchall()


def modes(*folders: Path) -> dict:
    """Return the permissions of others on the folders, their parents and their content."""
    seen = {folder for top in folders for folder in (top, *top.parents, *top.rglob("*"))}
    return {path: (stat.S_IMODE(path.lstat().st_mode), path.lstat().st_uid) for path in seen}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone that several tests share, with a long and unusual path."""
    folder = tmp_path_factory.mktemp("clone")
    made = Clone(folder / ("A long name " * 8).strip() / ("of 'folders' " * 8).strip() / ("é" * 50))
    yield made
    made.remove()


@pytest.fixture
def fresh_clone(tmp_path):
    made = Clone(tmp_path / "clone")
    yield made
    made.remove()


@pytest.fixture(autouse=True)
def nobody_uses_the_clone_any_more(clone):
    yield
    clone.leave()


def test_last_process_stops_the_server(clone):
    first = clone.use()
    second = clone.use()
    assert url(first) == url(second)

    assert end(first) == 0
    assert run_in(clone.server.url("outbound"), "SELECT 1") == [(1,)]

    assert end(second) == 0
    assert clone.server.process() is None


def test_simultaneous_processes_share_one_server(fresh_clone):
    users = [fresh_clone.use() for _ in range(4)]
    addresses = {url(user) for user in users}
    started = {run_in(address, "SELECT pg_postmaster_start_time()")[0] for address in addresses}

    assert len(addresses) == len(started) == 1
    assert [end(user) for user in users] == [0, 0, 0, 0]
    assert fresh_clone.server.process() is None


def test_next_process_takes_over_and_stops_the_server_of_a_killed_one(clone):
    killed = clone.use()
    with psycopg.connect(url(killed)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer")
    orphan = clone.server.process()
    killed.kill()
    killed.wait()
    assert orphan.is_running()

    following = clone.use()
    assert run_in(url(following), "SELECT answer FROM kept") == [(42,)]
    assert clone.server.process() == orphan

    end(following)
    assert not psutil.pid_exists(orphan.pid)


def test_server_killed_with_its_user_starts_again_with_its_data(clone):
    killed = clone.use()
    with psycopg.connect(url(killed)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer")
    server = clone.server.process()
    killed.kill()
    server.kill()
    server.wait()
    # After a restart of the machine another process may have the number: here this test itself.
    pid_file = clone.server.data / "postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace(str(server.pid), str(os.getpid()), 1))

    following = clone.use()

    assert run_in(url(following), "SELECT answer FROM kept") == [(42,)]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_every_signal_stops_the_server(clone, ending):
    user = clone.use()
    url(user)

    user.send_signal(ending)
    user.wait(timeout=10)

    assert clone.server.process() is None


def test_permissions_of_existing_files_do_not_change(fresh_clone):
    fresh_clone.folder.parent.chmod(0o700)
    there = [fresh_clone.folder, Path(sys.prefix) / "bin", postgres_server.wheel()]
    before = modes(*there)

    end_with = fresh_clone.use()
    url(end_with)
    end(end_with)

    after = modes(*there)
    assert {path: after[path] for path in before} == before


def test_only_the_owner_can_read_the_data(clone):
    user = clone.use()
    url(user)

    assert stat.S_IMODE(clone.server.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((clone.folder / ".data").stat().st_mode) == 0o700
    assert run_in(clone.server.url("outbound"), "SHOW listen_addresses") == [("",)]
    assert {row[0] for row in run_in(clone.server.url("outbound"), "SELECT auth_method FROM pg_hba_file_rules")} == {
        "peer",
        "reject",
    }


def test_folder_of_another_owner_is_refused_with_the_reason(fresh_clone):
    fresh_clone.server.folder.mkdir()
    fresh_clone.server.folder.chmod(0o755)

    user = fresh_clone.use()

    assert user.wait(timeout=10) == 1
    assert "Remove it, then try again." in user.stderr.read()


def test_removed_data_folder_is_created_again(fresh_clone):
    user = fresh_clone.use()
    with psycopg.connect(url(user)) as connection:
        connection.execute("CREATE TABLE forgotten ()")
    end(user)
    shutil.rmtree(fresh_clone.folder / ".data")

    assert run_in(url(fresh_clone.use()), "SELECT to_regclass('forgotten')") == [(None,)]


def test_database_url_is_used_as_it_is(fresh_clone):
    user = fresh_clone.use(DATABASE_URL="postgres://elsewhere/mine")

    assert url(user) == "postgres://elsewhere/mine"
    assert not (fresh_clone.folder / ".data").exists()


def test_data_of_killed_tests_is_deleted(fresh_clone):
    killed = fresh_clone.use(SERVER="test")
    with psycopg.connect(url(killed)) as connection:
        connection.execute("CREATE TABLE left_over ()")
    killed.kill()
    killed.wait()

    following = fresh_clone.use(SERVER="test")
    beside = fresh_clone.use(SERVER="test")

    assert run_in(url(following), "SELECT to_regclass('left_over')") == [(None,)]
    assert url(beside)
    assert (end(following), end(beside)) == (0, 0)


def test_case_folding_follows_unicode(clone):
    assert run_in(url(clone.use()), "SELECT 'É' ILIKE 'é', lower('ŽLUŤ'), getdatabaseencoding()") == [
        (True, "žluť", "UTF8")
    ]
