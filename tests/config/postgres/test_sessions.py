"""The check of the database's sessions at the start; tests/trials/test_cut_off_machine.py has real ones."""

from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.db import connection

from config.postgres import sessions

GOOD_OURS = {name: str(value) for name, value in sessions.CLIENT_OPTIONS.items()}
GOOD_THEIRS = {name: int(value) for name, value in sessions.SERVER_SETTINGS.items()}


class Cursor:
    def __init__(self, rows: dict[str, int]) -> None:
        self.rows = rows

    def __enter__(self) -> "Cursor":
        return self

    def __exit__(self, *_error: object) -> None:
        """Do nothing."""

    def execute(self, _sql: str, _params: object) -> None:
        """Do nothing."""

    def fetchall(self) -> list[tuple[str, int]]:
        return list(self.rows.items())


def found_problems(*, ours: dict[str, str], theirs: dict[str, int], host: str = "db.internal") -> list[str]:
    info = SimpleNamespace(host=host, get_parameters=lambda: ours)
    there = SimpleNamespace(
        connection=SimpleNamespace(info=info), ensure_connection=lambda: None, cursor=lambda: Cursor(theirs)
    )
    return sessions.find_problems(there)


def test_own_settings_are_no_problem_and_a_socket_of_this_machine_needs_none():
    assert found_problems(ours=GOOD_OURS, theirs=GOOD_THEIRS) == []
    assert found_problems(ours={}, theirs={}, host="/var/run/postgresql") == []


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ({"keepalives": "0"}, {}, "DATABASE_URL switches keepalives off."),
        ({"keepalives_idle": "60"}, {}, "notices a vanished server only after 64 seconds."),
        ({"keepalives_idle": "0"}, {}, "notices a vanished server only after hours, as the operating system decides."),
        ({}, {"tcp_keepalives_count": 9}, "The server notices a vanished machine only after 12 seconds."),
        ({}, {"tcp_keepalives_idle": 0}, "only after hours, as the operating system decides."),
        ({}, {"client_connection_check_interval": 0}, "does not look at the connection while a statement runs"),
    ],
)
def test_session_that_outlives_its_machine_is_named_with_the_reason(ours, theirs, words):
    (problem,) = found_problems(ours=GOOD_OURS | ours, theirs=GOOD_THEIRS | theirs)

    assert words in problem


@pytest.mark.django_db
def test_check_of_the_database_reports_it(monkeypatch, capsys):
    call_command("check", "--database", "default")
    monkeypatch.setattr(sessions, "find_problems", lambda _connection: ["The server is slow to notice."])
    call_command("check", "--database", "default")

    said = capsys.readouterr()
    assert said.err.count("outbound.W001") == 1
    assert "The server is slow to notice." in said.err


@pytest.mark.django_db
def test_session_over_a_socket_gets_no_further_statement(django_assert_num_queries):
    with django_assert_num_queries(0):
        sessions.prepare_session(connection=connection)
