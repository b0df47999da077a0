"""Rewritten rules match the same people as the old compiler did, and count as no edit."""

import hashlib
from datetime import timedelta
from importlib import import_module
from random import Random
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from audiences import change_log, compiler
from audiences.models import Audience, CustomAttribute, RewrittenRules
from audiences.models.audience import parse_stored_rules
from audiences.rules import MAX_RULES
from delivery import process
from delivery.eligibility.conditions import reachable_sql
from delivery.matching import rounds
from delivery.models import MatchState
from messaging.models import MessageVersion
from tests.factories import (
    AT,
    CustomAttributeFactory,
    CustomerFactory,
    MembershipFactory,
    MessageFactory,
    SegmentFactory,
    rule,
)
from tests.support import old_compiler
from tests.support.examples import examples

migration = import_module("messaging.migrations.0014_future_dates")
fingerprints = import_module("delivery.migrations.0033_fingerprints_of_rewritten_rules")

DAYS = (-36_500, -31, -3, -2, -1, 0, 1, 2, 3, 30, 36_500)
DATES = ("signed_up_at", "custom_attributes.trial_ends_at", "company.created_at")
UTC_ZONE = ZoneInfo("UTC")
EDITOR = SimpleNamespace(connection=connection)


def old_rule() -> st.SearchStrategy[dict[str, Any]]:
    operators = st.sampled_from(migration.AGO)
    about_dates = st.builds(rule, st.sampled_from(DATES), operators, st.sampled_from(DAYS))
    return st.one_of(about_dates, about_dates, about_dates, st.just(rule("name", "is", "Ada")))


def old_tree() -> st.SearchStrategy[dict[str, Any]]:
    """Draw nested groups of old rules: all, any, and copies of segments, of which some are negated."""

    def group(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        rules = {"match": st.sampled_from(("all", "any")), "rules": st.lists(inner, min_size=1, max_size=3)}
        copy = {"copied_from": st.just("Old as of 3 May"), "negated": st.just(value=True)}
        return st.one_of(st.fixed_dictionaries(rules), st.fixed_dictionaries({**rules, **copy}))

    plain = {"match": st.sampled_from(("all", "any"))}
    inner = st.recursive(old_rule(), group, max_leaves=6)
    return st.fixed_dictionaries({**plain, "rules": st.lists(inner, max_size=3)})


@pytest.fixture
def crowd(db: None) -> None:
    """Customers with dates at, before and after each boundary, with unknown dates, and in companies."""
    CustomAttributeFactory(name="trial_ends_at", kind="date")
    random = Random(3)  # noqa: S311 - not a secret
    moment = timedelta(microseconds=1)
    moments = [AT - timedelta(days=days) + off for days in DAYS for off in (-moment, 0 * moment, moment)]
    for number, at in enumerate([*moments, None, *random.sample(moments, 20)]):
        ends = random.choice([None, *DAYS])
        attributes = {} if ends is None else {"trial_ends_at": int((AT - timedelta(days=ends)).timestamp())}
        customer = CustomerFactory(name=("Ada", "Bob")[number % 2], signed_up_at=at, attributes=attributes)
        for _ in range(number % 3):
            MembershipFactory(customer=customer, company__remote_created_at=random.choice(moments))


def matching_pairs(condition: Any) -> set[tuple[int, int | None]]:
    with psycopg.Cursor(connection.connection) as cursor:
        return set(cursor.execute(condition.pairs(per_company=True), {**condition.params, "now": AT}).fetchall())


@examples(60)
@given(old=old_tree())
def test_rewritten_rules_match_the_same_people(crowd: None, old: dict[str, Any]) -> None:
    new = migration.rewritten_group(old)

    tree = parse_stored_rules(new)
    assert tree.as_json() == new
    assert all(leaf.value is None or leaf.attribute == "name" or leaf.value >= 0 for leaf in tree.leaves())
    before = old_compiler.compile_stored_rules(old, catalogue=CustomAttribute.objects.catalogue(), zone=UTC_ZONE)
    assert matching_pairs(compiler.compile_tree(tree, zone=UTC_ZONE)) == matching_pairs(before)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([rule("signed_up_at", "more_than_days_ago", 3)], [rule("signed_up_at", "more_than_days_ago", 3)]),
        (
            [rule("signed_up_at", "more_than_days_ago", -3), rule("signed_up_at", "less_than_days_ago", 0)],
            [rule("signed_up_at", "in_less_than_days", 3)],
        ),
        (
            [rule("signed_up_at", "less_than_days_ago", 60), rule("signed_up_at", "more_than_days_ago", 30)],
            [rule("signed_up_at", "less_than_days_ago", 60), rule("signed_up_at", "more_than_days_ago", 30)],
        ),
        ([rule("signed_up_at", "less_than_days_ago", -2)], [rule("signed_up_at", "in_more_than_days", 2)]),
    ],
)
def test_usual_rules_stay_short(old: list[Any], new: list[Any]) -> None:
    assert migration.rewritten_group({"match": "all", "rules": old}) == {"match": "all", "rules": new}


def test_rewritten_rules_stay_within_the_limits(db: None) -> None:
    for operator, days in (("more_than_days_ago", -3), ("less_than_days_ago", 3), ("exactly_days_ago", -3)):
        for match in ("all", "any"):
            asked = rule("signed_up_at", operator, days)
            nested = {"match": "any", "rules": [asked, rule("name", "is", "Ada")]}
            for _ in range(6):
                nested = {"match": match, "rules": [nested]}
            many = {"match": match, "rules": [asked] * (MAX_RULES - 2) + [nested]}

            assert parse_stored_rules(migration.rewritten_group(many))


def old_fingerprint(message: Any, rules: dict[str, Any]) -> str:
    """Return the fingerprint that version 0.2 stored after a round."""
    condition = old_compiler.compile_stored_rules(
        rules, catalogue=CustomAttribute.objects.catalogue(), zone=UTC_ZONE, prefix=f"m{message.pk}_"
    )
    parts = (
        *(change_log.LAYOUT, condition.sql, condition.joins, sorted(condition.params.items())),
        *(reachable_sql(message.channel, double_opt_in=False), message.per_company, "UTC"),
    )
    return hashlib.md5(repr(parts).encode(), usedforsecurity=False).hexdigest()


@pytest.mark.django_db(transaction=True)
def test_rewriting_is_no_edit_and_can_be_undone() -> None:
    CustomAttributeFactory(name="trial_ends_at", kind="date")
    recent = {"match": "all", "rules": [rule("signed_up_at", "less_than_days_ago", 7)]}
    ends = {"match": "all", "rules": [rule("custom_attributes.trial_ends_at", "exactly_days_ago", -3)]}
    messages = [MessageFactory(live=True, at=AT) for _ in range(3)]
    CustomerFactory(email="ada@x.example", signed_up_at=AT - timedelta(days=8))
    segment, one_off = SegmentFactory(), MessageFactory(live=True, one_off=True, at=AT)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audiences_audience DISABLE TRIGGER USER")
        for row, rules in zip((*messages, one_off), (recent, ends, recent, recent), strict=True):
            Audience.objects.filter(pk=row.audience_id).update(rules=rules)
            MessageVersion.objects.filter(message=row).update(rules=rules)
        Audience.objects.filter(pk=segment.pk).update(rules=ends)
        cursor.execute("ALTER TABLE audiences_audience ENABLE TRIGGER USER")
    for message, rules in zip(messages, (recent, ends, recent), strict=True):
        horizon, cluster = change_log.current_horizon(), change_log.cluster_id()
        MatchState.begin_full_match(message, horizon=horizon, cluster=cluster, at=AT)
        MatchState.record_full_match(message, horizon=horizon, at=AT, fingerprint=old_fingerprint(message, rules))
    # Its zone or a kind was changed since the last round.
    MatchState.objects.filter(message=messages[2]).update(fingerprint="0" * 32)
    kept = sorted(Audience.objects.values_list("pk", "name", "updated_at"))
    stored = dict(Audience.objects.values_list("pk", "rules"))
    versions = MessageVersion.objects.count()

    migration.rewrite_rules(None, EDITOR)
    fingerprints.keep_states(None, EDITOR)

    assert sorted(Audience.objects.values_list("pk", "name", "updated_at")) == kept
    assert MessageVersion.objects.count() == versions
    for row in (*messages, one_off):
        row.refresh_from_db()
        assert row.audience.rules == MessageVersion.objects.get(message=row).rules
        assert row.audience.tree
    assert RewrittenRules.objects.count() == 9
    # An upgrade restarts all processes.
    process.live_messages.clear()
    done = rounds.run_round(at=AT + timedelta(hours=1))
    assert (done.by_changes, done.in_full) == ([messages[0].pk, messages[1].pk], [messages[2].pk])

    Audience.objects.get(pk=segment.pk).save()
    edited = Audience.objects.get(pk=segment.pk)
    edited.rules = {"match": "all", "rules": [rule("name", "is", "Ada")]}
    edited.save()
    migration.restore_rules(None, EDITOR)
    assert dict(Audience.objects.values_list("pk", "rules")) == {**stored, edited.pk: edited.rules}
    assert not RewrittenRules.objects.exists()
