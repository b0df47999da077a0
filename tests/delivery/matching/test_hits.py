"""Hits: one statement judges the candidates for all messages."""

import pytest
from django.db import connection

from audiences.models import Customer
from delivery.matching import hits, rounds
from delivery.models import Reason, Status
from tests.factories import CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def judged(monkeypatch):
    """Collect the statements that judge candidates, each with its plan."""
    found: list[tuple[str, str]] = []
    execute = hits.sql.execute

    def explained(statement: str, params: dict[str, object]) -> int:
        if hits.HITS in statement and "CREATE" in statement:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {statement}", params)
                found.append((statement, "\n".join(line for (line,) in cursor.fetchall())))
        return execute(statement, params)

    monkeypatch.setattr(hits.sql, "execute", explained)
    return found


def test_records_of_candidates_are_looked_up_by_index(at, monkeypatch, judged):
    for number in range(300):
        CustomerFactory(email=f"u{number}@x.example")
    message = MessageFactory(live=True, at=at, rules=[rule("session_count", "less_than", 9)])
    assert rounds.run_round(at=at).made == 300
    withdrawn = message.records.filter(pk__in=message.records.order_by("pk").values("pk")[:5])
    withdrawn.withdraw(reason=Reason.NO_LONGER_MATCHES)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE audiences_customer, delivery_deliveryrecord")

    for few, sessions, made in ((0, 3, 5), (100, 4, 0)):
        monkeypatch.setattr(hits, "few_records", lambda few=few: few)
        Customer.objects.update(session_count=sessions)
        done = rounds.run_round(at=at)
        assert (done.by_changes, done.candidates, done.made) == ([message.pk], 300, made)

    plan = judged[-1][1]
    assert "Index Cond: (customer_id = h.customer_id)" in plan
    assert "Seq Scan on delivery_deliveryrecord" not in plan


@pytest.mark.parametrize("few", [0, 100], ids=["all at once", "one by one"])
def test_records_of_a_stopped_message_and_of_others_are_told_apart(at, monkeypatch, few):
    monkeypatch.setattr(hits, "few_records", lambda: few)
    ada, eve = (CustomerFactory(name=name, email=f"{name.lower()}@x.example") for name in ("Ada", "Eve"))
    messages = [MessageFactory(live=True, at=at, rules=[rule("name", "is", name)]) for name in ("Ada", "Ada", "Eve")]
    rounds.run_round(at=at)
    messages[0].records.withdraw(reason=Reason.STOPPED)
    messages[1].records.withdraw(reason=Reason.NO_LONGER_MATCHES)
    Customer.objects.filter(pk=eve.pk).update(name="Ada")

    assert rounds.run_round(at=at).made == 3

    by_message = [
        set(one.records.filter(status=Status.WAITING).values_list("customer_id", flat=True)) for one in messages
    ]
    assert by_message == [{eve.pk}, {ada.pk, eve.pk}, {eve.pk}]


def test_rule_that_several_messages_share_is_evaluated_once_for_each_customer(at, judged):
    ada = CustomerFactory(name="Ada", email="ada@x.example")
    names = [rule("name", "is", name) for name in ("Eve", "Bob", "Cid", "Dan")]
    shared = [rule("country", "is", "Ireland"), {"match": "none", "rules": [rule("company.plan", "is", "free")]}]
    messages = [MessageFactory(live=True, at=at, rules=[name, *shared]) for name in names]
    rounds.run_round(at=at)
    Customer.objects.filter(pk=ada.pk).update(name="Eve", country="Ireland")

    assert rounds.run_round(at=at).made == 1

    statement = judged[0][0]
    assert [statement.count(f"c.{column} = ") for column in ("country", "name")] == [1, 4]
    assert statement.count("k.plan = ") == 1
    assert messages[0].records.get().customer == ada


def test_only_messages_that_a_change_concerns_are_judged(at, judged):
    ada = CustomerFactory(name="Ada", email="ada@x.example")
    message, other = (MessageFactory(live=True, at=at, rules=[rule(name, "is", "Eve")]) for name in ("name", "city"))
    rounds.run_round(at=at)
    Customer.objects.filter(pk=ada.pk).update(name="Eve")

    done = rounds.run_round(at=at)

    assert (done.by_changes, done.made) == ([message.pk, other.pk], 1)
    assert "c.city" not in judged[0][0]


def test_conditions_beyond_the_limit_of_columns_are_written_out(monkeypatch):
    monkeypatch.setattr(hits, "MAX_GATES", 1)
    gates: dict[str, str] = {}

    columns = [hits.column_of_gate(gate, gates) for gate in ("(a)", "(b)", "(a)")]

    assert columns == ["s.g0", "(b)", "s.g0"]
    assert gates == {"(a)": "g0"}
