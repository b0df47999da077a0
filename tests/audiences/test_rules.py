"""Every invalid rule raises RuleError with a sentence that names it, and never another error."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiences import attributes
from audiences.attributes import Catalogue
from audiences.compiler import COMPILE
from audiences.rules import (
    EVERYONE,
    KIND_NAMES,
    LABELS,
    MAX_DEPTH,
    MAX_RULES,
    NEGATIVE_OPERATORS,
    OPERATORS,
    OPERATORS_WITHOUT_VALUE,
    VALUE_READERS,
    Group,
    Kind,
    Operator,
    Rule,
    RuleError,
    parse,
    value_kind,
)
from tests.support.examples import examples

CATALOGUE = Catalogue(customer={"plan": Kind.TEXT, "seats": Kind.NUMBER}, company={"beta": Kind.BOOLEAN})


def kind_of(name: str) -> tuple[Kind, str]:
    found = attributes.find_attribute(name, catalogue=CATALOGUE)
    return found.kind, found.label


def parsed(stored: object) -> Group:
    return parse(stored, kind_of=kind_of)


def rule(attribute: object, operator: object, value: object = None) -> dict[str, Any]:
    return {"attribute": attribute, "operator": operator, "value": value}


def all_of(*rules: object) -> dict[str, Any]:
    return {"match": "all", "rules": list(rules)}


def nested(times: int, *, inside: object, **more: object) -> dict[str, Any]:
    group: Any = inside
    for _ in range(times):
        group = {**all_of(group), **more}
    return group


def refusal(stored: object) -> str:
    with pytest.raises(RuleError) as refused:
        parsed(stored)
    return str(refused.value)


TRUE: object = True
ROLE = rule("role", "is", "user")
HUGE = 10**5000
REFUSED: dict[str, tuple[object, str]] = {
    "no attribute": (rule("", "is", "x"), "Rule 1 has no attribute."),
    "an attribute that is no text": (rule(7, "is", "x"), "Rule 1 has no attribute."),
    "an unknown attribute": (rule("shoe_size", "is", 42), "Rule 1: there is no attribute “shoe_size”."),
    "an unknown custom attribute": (
        rule("custom_attributes.seat", "is", 1),
        "Rule 1: there is no attribute “custom_attributes.seat”.",
    ),
    "another's custom attribute": (
        rule("company.custom_attributes.plan", "is", "pro"),
        "Rule 1: there is no attribute “company.custom_attributes.plan”.",
    ),
    "an event without a name": (rule("event.", "has_happened"), "Rule 1: there is no attribute “event.”."),
    "a null character in an event": (rule("event.\0", "has_happened"), "Rule 1: there is no attribute “event.�”."),
    "half a letter in an event": (rule("event.\ud800", "has_happened"), "Rule 1: there is no attribute “event.�”."),
    "an unknown operator": (rule("name", "sounds_like", "x"), "Rule 1, “Name”: there is no operator “sounds_like”."),
    "an operator that is no text": (rule("name", ["is"], "x"), "Rule 1, “Name”: there is no operator “a list”."),
    "an operator of another kind": (
        rule("name", "greater_than", 3),
        "Rule 1: “greater than” does not fit “Name”, which is text.",
    ),
    "a day for an event": (
        rule("event.ordered", "on", "2026-05-04"),
        "Rule 1: “on” does not fit “Event “ordered””, which is an event.",
    ),
    "no text": (rule("name", "is", " "), "Rule 1, “Name is”: enter a text to compare with."),
    "a truth for a text": (rule("name", "is", TRUE), "Rule 1, “Name is”: enter a text to compare with."),
    "no number for a text": (rule("name", "is", float("nan")), "Rule 1, “Name is”: enter a text to compare with."),
    "a huge number for a text": (rule("name", "is", HUGE), "Rule 1, “Name is”: enter a text to compare with."),
    "a null character": (
        rule("name", "contains", "a\0b"),
        "Rule 1, “Name contains”: the text contains a character that cannot be stored.",
    ),
    "half a letter": (
        rule("name", "contains", "a\udfff"),
        "Rule 1, “Name contains”: the text contains a character that cannot be stored.",
    ),
    "a long text": (rule("name", "is", "x" * 1001), "Rule 1, “Name is”: the text is longer than 1,000 characters."),
    "words for a number": (
        rule("custom_attributes.seats", "is", "many"),
        "Rule 1, “seats is”: “many” is not a number.",
    ),
    "NaN": (rule("session_count", "is", float("nan")), "Rule 1, “Web sessions is”: “nan” is not a number."),
    "NaN in words": (rule("session_count", "is", "sNaN"), "Rule 1, “Web sessions is”: “sNaN” is not a number."),
    "infinity": (rule("session_count", "is", float("-inf")), "Rule 1, “Web sessions is”: “-inf” is not a number."),
    "a huge number": (
        rule("session_count", "less_than", HUGE),
        "Rule 1, “Web sessions less than”: “a number of many digits” is not a number.",
    ),
    "a huge number in words": (
        rule("session_count", "less_than", "9" * 5000),
        f"Rule 1, “Web sessions less than”: “{'9' * 60}…” is not a number.",
    ),
    "a truth for a number": (rule("session_count", "is", TRUE), "Rule 1, “Web sessions is”: “True” is not a number."),
    "half a day": (
        rule("last_seen_at", "more_than_days_ago", 2.5),
        "Rule 1, “Last seen more than … days ago”: enter a whole number of days.",
    ),
    "a negative number of days": (
        rule("last_seen_at", "more_than_days_ago", -3),
        "Rule 1, “Last seen more than … days ago”: the number of days cannot be negative."
        " For the future, use “in less than … days” (in_less_than_days).",
    ),
    "less than no days": (
        rule("last_seen_at", "less_than_days_ago", 0),
        "Rule 1, “Last seen less than … days ago”: enter 1 or more days.",
    ),
    "a negative number of days from now": (
        rule("last_seen_at", "in_more_than_days", -3),
        "Rule 1, “Last seen in more than … days”: enter 0 or more days.",
    ),
    "no days": (
        rule("last_seen_at", "exactly_days_ago", ""),
        "Rule 1, “Last seen exactly … days ago”: enter a whole number of days.",
    ),
    "too many days": (
        rule("last_seen_at", "less_than_days_ago", 40_000),
        "Rule 1, “Last seen less than … days ago”: enter at most 36,500 days.",
    ),
    "a date that is none": (
        rule("signed_up_at", "after", "2026-02-30"),
        "Rule 1, “Signed up after”: “2026-02-30” is not a valid date. Use the format 2026-05-31.",
    ),
    "a number for a date": (
        rule("signed_up_at", "on", 1_777_777_777),
        "Rule 1, “Signed up on”: “1777777777” is not a valid date. Use the format 2026-05-31.",
    ),
    "a date long gone": (
        rule("signed_up_at", "before", "0001-01-01"),
        "Rule 1, “Signed up before”: the year must be between 1900 and 2999.",
    ),
    "a role that is none": (rule("role", "is", "visitor"), "Rule 1, “Role is”: the role must be user or lead."),
    "no tag": (rule("tag", "is", None), "Rule 1, “Tag is”: choose one."),
    "a tag by its name": (rule("tag", "is", "vip"), "Rule 1, “Tag is”: choose one."),
    "a tag of many digits": (rule("tag", "is", "9" * 5000), "Rule 1, “Tag is”: choose one."),
    "a teammate below all": (rule("owner", "is_not", -1), "Rule 1, “Owner is not”: choose one."),
    "a rule that is none": ("role is user", 'Rule 1 must be an object with "attribute", "operator" and "value".'),
    "an empty group": (all_of(), "Group 1 has no rules. Add one, or remove the group."),
    "a joint that is none": (
        {"match": "some", "rules": [ROLE]},
        'Group 1 must match "all", "any" or "none" of its rules, not “some”.',
    ),
    "rules that are no list": ({"match": "all", "rules": {"0": ROLE}}, 'Group 1 needs a list of "rules".'),
    "a copy of nothing": ({**all_of(ROLE), "copied_from": 7}, 'Group 1 has a "copied_from" that is not a string.'),
    "an unstorable copy": ({**all_of(ROLE), "copied_from": "\0"}, 'Group 1 has a "copied_from" that is not a string.'),
    "a no of nothing": (
        {**all_of(ROLE), "negated": True},
        'Group 1 is "negated", but only the copy of a segment can be negated.',
    ),
    "a no that is no truth": (
        {**all_of(ROLE), "negated": "no"},
        'Group 1 has a "negated" that is not true or false.',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("stored", "sentence"), REFUSED.values(), ids=REFUSED)
def test_an_invalid_rule_is_refused_by_its_number(stored: object, sentence: str) -> None:
    assert refusal(all_of(stored)) == sentence


def test_the_error_has_the_number_of_a_nested_rule() -> None:
    within = {"match": "any", "rules": [ROLE, rule("tag", "is", "vip")]}
    assert refusal(all_of(ROLE, within)) == "Rule 2.2, “Tag is”: choose one."


@pytest.mark.parametrize("stored", ["all", 7, True, [ROLE], {"match": "all"}, ROLE])
def test_json_without_a_group_never_matches_everyone(stored: object) -> None:
    assert refusal(stored) == 'The audience must be an object with "match" and "rules".'


@pytest.mark.parametrize("stored", [None, {}, [], {"match": "any", "rules": []}])
def test_no_rules_match_everyone(stored: object) -> None:
    assert parsed(stored).rules == EVERYONE.rules == ()


def test_nesting_of_groups_is_limited() -> None:
    assert parsed(nested(MAX_DEPTH, inside=ROLE)).as_json()["match"] == "all"
    assert "nested too deep" in refusal(nested(MAX_DEPTH + 1, inside=ROLE))


def test_nesting_of_copied_segments_is_limited() -> None:
    assert "nested too deep" in refusal(all_of(nested(900, inside=ROLE, copied_from="VIPs as of 3 May 2026")))


def test_depth_and_rules_of_a_copied_segment_do_not_count() -> None:
    segment = nested(MAX_DEPTH, inside=rule("session_count", "is", 1))
    copied = {**all_of(segment), "copied_from": "VIPs as of 3 May 2026"}
    assert parsed(nested(MAX_DEPTH, inside=copied)).own_rule_count() == 0

    many = {**all_of(*[ROLE] * MAX_RULES), "copied_from": "VIPs as of 3 May 2026"}
    assert sum(1 for _ in parsed(all_of(many, ROLE)).leaves()) == MAX_RULES + 1


def test_number_of_rules_is_limited() -> None:
    assert parsed(all_of(*[ROLE] * MAX_RULES)).own_rule_count() == MAX_RULES
    assert refusal(all_of(*[ROLE] * MAX_RULES, all_of(ROLE))) == f"An audience can have at most {MAX_RULES} rules."


@pytest.mark.parametrize("inside", [[ROLE] * 201, [{**all_of(), "copied_from": "All as of 3 May 2026"}] * 201])
def test_a_forged_copy_cannot_exceed_the_total_number_of_rules(inside) -> None:
    copied = {**all_of(*inside), "copied_from": "VIPs as of 3 May 2026"}
    assert "at most 400 rules, including those of its segments" in refusal(all_of(copied, copied))


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (rule("session_count", "is", " 2.50 "), 2.5),
        (rule("session_count", "is", 3.0), 3),
        (rule("session_count", "is", "-0"), 0),
        (rule("last_seen_at", "more_than_days_ago", "3"), 3),
        (rule("signed_up_at", "on", "20260531"), "2026-05-31"),
        (rule("tag", "is", "7"), 7),
        (rule("name", "is", 7), "7"),
        (rule("name", "is", " pro "), " pro "),
    ],
)
def test_a_value_is_parsed_as_its_kind(typed: dict[str, Any], stored: object) -> None:
    value = parsed(all_of(typed)).rules[0].value
    assert (value, type(value)) == (stored, type(stored))


@pytest.mark.parametrize("operator", sorted(OPERATORS_WITHOUT_VALUE))
def test_an_operator_without_value_drops_the_value(operator: Operator) -> None:
    name = {"has": "event.ordered", "is_": "company.custom_attributes.beta"}[operator[:3]]
    if operator in (Operator.HAS_ANY_VALUE, Operator.IS_UNKNOWN):
        name = "name"
    assert parsed(all_of(rule(name, operator.value, "anything"))).rules == (Rule(name, operator),)


def test_parsing_is_idempotent() -> None:
    tree = parsed({**all_of({"match": "any", "rules": [ROLE], "negated": True, "copied_from": "VIPs"}, ROLE)})
    assert parsed(tree.as_json()) == tree


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
ODD = (10**400, 1e308, "9" * 5000, "1e999999999", "-0", "2026-02-30", "all", "any", *Operator, *attributes.BY_NAME)
PIECES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), ANY_TEXT, st.sampled_from(ODD))
ANY_JSON = st.recursive(
    PIECES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(ANY_TEXT, inner, max_size=3),
        st.fixed_dictionaries(
            {"attribute": inner, "operator": inner}, optional={"value": inner, "rules": inner, "match": inner}
        ),
        st.fixed_dictionaries(
            {"rules": st.lists(inner, max_size=3)}, optional={"match": inner, "copied_from": inner, "negated": inner}
        ),
    ),
    max_leaves=12,
)
NAMES = st.sampled_from([*attributes.BY_NAME, "event.x"])
NEARLY_RULES = st.builds(rule, NAMES, st.sampled_from(list(Operator)), ANY_JSON)


@examples(200)
@given(stored=st.one_of(ANY_JSON, st.builds(all_of, ANY_JSON), st.builds(all_of, NEARLY_RULES, NEARLY_RULES)))
def test_any_json_is_parsed_or_refused_with_an_encodable_error(stored: object) -> None:
    try:
        tree = parsed(stored)
    except RuleError as refused:
        sentence = str(refused)
    else:
        assert parsed(tree.as_json()) == tree
        return
    assert sentence.encode().endswith(b".")
    assert len(sentence) < 400
    assert "\0" not in sentence


def test_every_operator_has_a_label_and_every_kind_a_name_and_operators() -> None:
    assert set(LABELS) == set(Operator)
    assert set(KIND_NAMES) == set(OPERATORS) == set(Kind)
    assert set().union(*OPERATORS.values()) == set(Operator)
    assert set(Operator) > NEGATIVE_OPERATORS


def test_every_operator_of_every_kind_compiles() -> None:
    assert {(kind, operator) for kind, operators in OPERATORS.items() for operator in operators} == set(COMPILE)


def test_every_kind_has_a_reader_of_its_values() -> None:
    needed = {
        value_kind(kind, op)
        for kind, operators in OPERATORS.items()
        for op in operators
        if op not in OPERATORS_WITHOUT_VALUE
    }
    assert needed == set(VALUE_READERS)
