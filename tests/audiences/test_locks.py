"""Advisory locks: every number is unique, and all numbers are in one module."""

import re
from pathlib import Path

import pytest
from django.db import connection

from audiences.locks import Lock

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("audiences", "messaging", "delivery", "outbound", "config", "templates", "benchmarks")
HOME = ROOT / "audiences" / "locks.py"
# One of our numbers, in any spelling, or a literal number in a call of a lock function.
NUMBER = re.compile(r"7_?210_?\d{3}|advisory\w*\(\s*-?\d|hashtext\w*\('")


def test_no_two_locks_have_the_same_number():
    assert len({lock.value for lock in Lock}) == len(Lock.__members__)


def test_lock_numbers_appear_only_in_the_list():
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in (".py", ".sql")]
    found = [str(path) for path in sources if path != HOME and NUMBER.search(path.read_text())]

    assert len(sources) > 100
    assert found == []


def test_every_module_with_an_advisory_lock_imports_the_list():
    takes = re.compile(r"pg_\S*advisory")
    sources = [
        path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if takes.search(path.read_text())
    ]

    assert len(sources) > 5
    assert [str(path) for path in sources if "from audiences.locks import Lock" not in path.read_text()] == []


def test_every_lock_is_taken_somewhere():
    text = "".join(path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

    assert [lock.name for lock in Lock if f"Lock.{lock.name}" not in text] == []


@pytest.mark.django_db
def test_the_database_accepts_an_enum_member_as_its_number():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s), %s::bigint", [Lock.ROUND, 1, Lock.VISITS])
        assert cursor.fetchone()[1] == 7_210_003
