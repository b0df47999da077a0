"""Change-driven rounds match the same people as full matches, over long random histories.

MATCH_HISTORY_STEPS is the number of random steps (100,000 before a release; few in `make test`).
"""

import os
from itertools import count, cycle

import pytest
from django.db import connection

from delivery.matching import changes, hits
from tests.support.match_histories import History

pytestmark = pytest.mark.django_db(transaction=True)

STEPS = int(os.environ.get("MATCH_HISTORY_STEPS", "250"))
FIRST_SEED = int(os.environ.get("MATCH_HISTORY_SEED", "1"))
STEPS_OF_A_HISTORY = 250
MAX_STEPS_TO_FIND = 400

# For each table with a log, steps that change it; a removal of its triggers must be found with them.
TABLES: dict[str, tuple[str, ...]] = {
    "audiences_customer": ("write_by_rest", "visit", "import_rows"),
    "audiences_customertag": ("change_tags",),
    "audiences_company": ("write_company", "archive_company"),
    "audiences_companytag": ("tag_company",),
    "audiences_membership": ("join_company", "move_membership"),
    "audiences_eventsummary": ("record_event",),
    "audiences_device": ("change_devices",),
    "audiences_topicoptout": ("change_topics", "withdraw"),
    "delivery_deliveryrecord": ("withdraw", "send", "open_or_click"),
}


@pytest.fixture(autouse=True)
def no_large_share(monkeypatch) -> None:
    """Never judge everyone because many have changed: a few steps change most of these few customers."""
    monkeypatch.setattr(changes, "is_large_share", lambda _found: False)


@pytest.fixture(autouse=True)
def every_way_to_judge(monkeypatch) -> None:
    """Share every rule, and look up the records of customers in both ways in turn."""
    monkeypatch.setattr(hits, "SHARED_FROM", 1)
    few = cycle([0, 1_000])
    monkeypatch.setattr(hits, "few_records", lambda: next(few))


def test_rounds_by_changes_miss_nobody():
    compared = driven = made = 0
    for seed in count(FIRST_SEED):
        if (seed - FIRST_SEED) * STEPS_OF_A_HISTORY >= STEPS:
            break
        history = History(seed)
        history.run(STEPS_OF_A_HISTORY)
        assert history.failed == []
        compared, driven, made = compared + history.compared, driven + history.driven, made + history.made

    assert driven >= 0.9 * compared
    assert made > 0


@pytest.mark.parametrize("table", TABLES)
def test_removed_log_of_a_table_is_found(table):
    history = History(1, steps=(*TABLES[table], "let_time_pass"))
    history.compare()
    assert history.failed == []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname LIKE '%%is_logged%%'", [table]
        )
        triggers = [name for (name,) in cursor.fetchall()]
        assert triggers
        for name in triggers:
            cursor.execute(f'ALTER TABLE {table} DISABLE TRIGGER "{name}"')
        try:
            history.run(MAX_STEPS_TO_FIND)
        finally:
            for name in triggers:
                cursor.execute(f'ALTER TABLE {table} ENABLE TRIGGER "{name}"')

    assert history.failed != []


def test_every_table_with_a_log_is_removed_once():
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE '%is_logged%'")
        assert {name for (name,) in cursor.fetchall()} == set(TABLES)
