"""The compiler agrees with the oracle on random customers and rules, and on every attribute with every operator."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from random import Random
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from hypothesis import given, note
from hypothesis import strategies as st

from audiences import attributes, compiler, segment_copies
from audiences.attributes import Catalogue
from audiences.models import Audience
from audiences.models.audience import parse_stored_rules
from audiences.rules import (
    LEAST_DAYS,
    OPERATORS,
    OPERATORS_WITHOUT_VALUE,
    PRESENCE_OPERATORS,
    RELATIVE_DAY_OPERATORS,
    Kind,
    Operator,
)
from messaging.models import Message
from tests.factories import AudienceFactory, CustomAttributeFactory, TagFactory
from tests.support import rule_oracle as oracle
from tests.support import rule_worlds as worlds
from tests.support.examples import examples
from tests.support.rule_oracle import World

TREES = 8  # in each world
SEGMENTS = (9_301, 9_302, 9_303)

CATALOGUE = Catalogue(customer=worlds.KEYS, company=worlds.KEYS)
NAMES = [
    *attributes.BY_NAME,
    *(f"{prefix}{key}" for prefix in (attributes.CUSTOM, attributes.COMPANY_CUSTOM) for key in worlds.KEYS),
    *(f"{prefix}{event}" for prefix in attributes.EVENT_ATTRIBUTES for event in (*worlds.EVENTS, "Ordered", "never")),
]
KINDS = {name: attributes.find_attribute(name, catalogue=CATALOGUE).kind for name in NAMES}
QUESTIONS = [(name, operator) for name in NAMES for operator in OPERATORS[KINDS[name]]]


def values(kind: Kind, operator: Operator, now: datetime, *, segments: tuple[int, ...]) -> list[Any]:
    """Return values for rules of this kind, at the edges of the values in the worlds."""
    if kind is Kind.DATE:
        if operator in RELATIVE_DAY_OPERATORS:
            least = LEAST_DAYS.get(operator, 0)
            return [days for days in (*worlds.DAYS, 4, 31, 399, 400, 401, 36_500) if days >= least]
        return [(now + timedelta(days=days)).date().isoformat() for days in range(-4, 5)] + ["1900-01-01", "2999-12-31"]
    return {
        Kind.TEXT: [*worlds.VALUES_ASKED_FOR, *worlds.UNIQUE_TEXTS],
        Kind.NUMBER: list(worlds.NUMBERS),
        Kind.ROLE: ["user", "lead"],
        Kind.TAG: list(worlds.TAGS),
        Kind.SEGMENT: list(segments),
        Kind.MESSAGE: [*worlds.MESSAGES, 77],
        Kind.TEAMMATE: [*worlds.TEAMMATES, 77],
    }[kind]


@st.composite
def rule(draw: st.DrawFn, now: datetime, segments: tuple[int, ...]) -> dict[str, Any]:
    """Draw a rule about any attribute; about a segment only if there are segments."""
    kinds = [pair for pair in compiler.COMPILE if segments or pair[0] is not Kind.SEGMENT]
    kind, operator = draw(st.sampled_from(kinds))
    name = draw(st.sampled_from([name for name in NAMES if KINDS[name] is kind]))
    asks: dict[str, Any] = {"attribute": name, "operator": operator.value}
    if operator not in OPERATORS_WITHOUT_VALUE:
        asks["value"] = draw(st.sampled_from(values(kind, operator, now, segments=segments)))
    return asks


def tree(now: datetime, segments: tuple[int, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw nested rules and groups, sometimes without any rule."""
    joint = st.sampled_from(("all", "any", "none"))

    def group(inner: st.SearchStrategy[dict[str, Any]], least: int = 1) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({"match": joint, "rules": st.lists(inner, min_size=least, max_size=3)})

    one = rule(now, segments)
    return group(st.recursive(one, group, max_leaves=6), least=0)


@st.composite
def cases(draw: st.DrawFn) -> tuple[World, datetime, list[dict[str, Any]]]:
    """Draw a world with nested segments, a time, and trees to evaluate."""
    seed = draw(st.integers(0, 2**32))
    note(f"The world is worlds.draw_world(Random({seed})).")
    world, now = worlds.draw_world(Random(seed))  # noqa: S311 - not a secret
    for known, segment in enumerate(SEGMENTS):
        world.segments[segment] = draw(tree(now, SEGMENTS[:known]))
    return world, now, draw(st.lists(tree(now, SEGMENTS), min_size=TREES, max_size=TREES))


@pytest.fixture
def referenced_rows(db: None) -> None:
    """Create the rows that every world refers to: teammates, tags, messages and the catalogue."""
    User.objects.bulk_create(User(pk=pk, username=f"teammate {pk}") for pk in worlds.TEAMMATES)
    for pk in worlds.TAGS:
        TagFactory(pk=pk)
    for pk in worlds.MESSAGES:
        Message.objects.create(pk=pk, title=f"Message {pk}", audience=AudienceFactory())
    for scope in ("customer", "company"):
        for key, kind in worlds.KEYS.items():
            CustomAttributeFactory(scope=scope, name=key, kind=kind.value)


class Stored:
    """A world in the database, evaluated by the compiler."""

    def __init__(self, world: World, now: datetime) -> None:
        self.now = now
        worlds.store_world(world, at=now)
        for pk, rules in world.segments.items():
            Audience(pk=pk, name=f"segment {pk}", rules=rules).save()

    def customers(self, rules: dict[str, Any]) -> set[int]:
        """Evaluate as pages do."""
        return set(compiler.matching_customers(rules, at=self.now).values_list("pk", flat=True))

    def pairs(self, tree: compiler.Group, *, per_company: bool, where: str = "TRUE", **params: Any) -> set[oracle.Pair]:
        """Evaluate as matching does, with values bound by the server as in prepared statements."""
        condition = compiler.compile_tree(tree)
        with psycopg.Cursor(connection.connection) as cursor:
            sql = condition.pairs(per_company=per_company, where=where)
            rows = cursor.execute(sql, {**condition.params, "now": self.now, **params}).fetchall()
        assert len(rows) == len(set(rows)), "a pair came twice"
        return set(rows)


def agree(stored: Stored, world: World, rules: dict[str, Any]) -> set[oracle.Pair]:
    """Assert that every evaluation agrees with the oracle, and return its result."""
    expected = oracle.pairs(world, rules, at=stored.now)
    people = {customer for customer, _ in expected}
    parsed = parse_stored_rules(rules)
    assert stored.customers(rules) == people
    assert stored.pairs(parsed, per_company=False) == {(customer, None) for customer in people}
    assert stored.pairs(parsed, per_company=True) == expected
    return expected


@examples(25)
@given(case=cases())
def test_the_compiler_agrees_with_the_oracle(
    referenced_rows: None, case: tuple[World, datetime, list[dict[str, Any]]]
) -> None:
    world, now, trees = case
    with transaction.atomic():
        stored = Stored(world, now)
        for rules in trees:
            expected = agree(stored, world, rules)

            frozen = segment_copies.freeze(parse_stored_rules(rules), on=now)
            assert parse_stored_rules(frozen.as_json()) == frozen
            assert stored.pairs(frozen, per_company=True) == expected

            one = world.customers[len(expected) % len(world.customers)].pk
            alone = stored.pairs(parse_stored_rules(rules), per_company=True, where="c.id = %(one)s", one=one)
            assert alone == {pair for pair in expected if pair[0] == one}
        transaction.set_rollback(True)


@pytest.fixture
def crowd(referenced_rows: None) -> tuple[World, Stored]:
    """One large world from a fixed seed."""
    world, now = worlds.draw_world(Random(7), customers=60, companies=14)  # noqa: S311 - not a secret
    world.segments = {
        9_301: {"match": "any", "rules": [{"attribute": "company.plan", "operator": "has_any_value"}]},
        9_302: {"match": "all", "rules": [{"attribute": "segment", "operator": "is_not", "value": 9_301}]},
        9_303: {"match": "all", "rules": [{"attribute": "tag", "operator": "is", "value": worlds.TAGS[0]}]},
    }
    return world, Stored(world, now)


def distinguishing_rules(
    world: World, asked: list[dict[str, Any]], now: datetime
) -> Iterator[tuple[dict[str, Any], set[int]]]:
    """Yield the rules that match some customers but not all users, with the matching customers."""
    users = oracle.customers(world, {}, at=now)
    for rule in asked:
        people = oracle.customers(world, {"rules": [rule]}, at=now)
        if people and people != users:
            yield {"rules": [rule]}, people


def test_every_attribute_with_every_operator_agrees_and_distinguishes_customers(crowd: tuple[World, Stored]) -> None:
    world, stored = crowd
    order = Random(7)  # noqa: S311 - not a secret
    undistinguishing = set()
    for name, operator in QUESTIONS:
        asks = {"attribute": name, "operator": operator.value}
        asked = [asks]
        if operator not in OPERATORS_WITHOUT_VALUE:
            among = values(KINDS[name], operator, stored.now, segments=SEGMENTS)
            asked = [{**asks, "value": value} for value in order.sample(among, len(among))]
        tried = 0
        for rules, people in islice(distinguishing_rules(world, asked, stored.now), 2):
            assert stored.customers(rules) == people, rules
            assert {customer for customer, _ in stored.pairs(parse_stored_rules(rules), per_company=True)} == people, (
                rules
            )
            tried += 1
        if not tried:
            undistinguishing.add((name, operator))
    assert undistinguishing == {(name, operator) for name, operator in QUESTIONS if is_the_same_for_all(name, operator)}


def is_the_same_for_all(name: str, operator: Operator) -> bool:
    """Return whether all customers are the same in it: an event without records, or a column that is never null."""
    always_known = name == "session_count" or (KINDS[name] is Kind.BOOLEAN and "custom" not in name)
    return name.endswith(".never") or (always_known and operator in PRESENCE_OPERATORS)


def test_every_attribute_and_operator_is_covered() -> None:
    assert {(KINDS[name], operator) for name, operator in QUESTIONS} == set(compiler.COMPILE)
    assert set(attributes.BY_NAME) <= set(NAMES)
    assert {operator.value for operator in Operator} == set(oracle.OPERATORS)


def test_the_oracle_folds_letters_like_the_database(db: None) -> None:
    letters = sorted(set("".join((*worlds.TEXTS, *worlds.VALUES_ASKED_FOR))))
    with connection.cursor() as cursor:
        cursor.execute("SELECT letter, lower(letter) FROM unnest(%s::text[]) AS letter", [letters])
        assert {letter: oracle.fold(letter) for letter in letters} == dict(cursor.fetchall())
