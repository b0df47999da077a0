"""Choices of the composer: attributes, operators and names for the rule builder, and variables to insert."""

import json
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.models import User

from audiences.attributes import (
    BY_NAME,
    COMPANY_CUSTOM,
    CUSTOM,
    DETAILS,
    EVENT_ATTRIBUTES,
    About,
    Attribute,
    Catalogue,
    find_attribute,
)
from audiences.models import Audience, CustomAttribute, EventName
from audiences.models.customers import Role
from audiences.rules import (
    LABELS,
    MAX_DEPTH,
    NEGATIVE_OPERATORS,
    OPERATORS,
    OPERATORS_WITHOUT_VALUE,
    Kind,
    Operator,
    value_kind,
)
from messaging import content, delivery_window
from outbound.console import lookups

# More names than the catalogue holds; retired ones are known too.
MAX_KNOWN_EVENTS = 1_000


def rule_builder(stored: Any = None) -> dict[str, Any]:
    """Return the rule builder's data. The choices include every name that the `stored` rules use."""
    leaves = list(leaves_of(stored))
    named = {leaf.get("value") for leaf in leaves if isinstance(leaf.get("value"), int)}
    offered, more = name_choices(named)
    attributes = CustomAttribute.objects.offered().catalogue()
    events = list(EventName.objects.order_by("name").values_list("name", "retired_at")[:MAX_KNOWN_EVENTS])
    return {
        "groups": attribute_groups(
            {str(leaf.get("attribute", "")) for leaf in leaves},
            offered=attributes,
            events=[name for name, retired_at in events if retired_at is None][: lookups.EVENT_LIMIT],
        ),
        "operators": {kind: [operator_option(kind, one) for one in OPERATORS[kind]] for kind in Kind},
        "choices": offered,
        "more": more,
        "negative": [one.value for one in NEGATIVE_OPERATORS],
        "deepest": MAX_DEPTH,
        "presets": presets(attributes),
        "knownEvents": [name for name, _ in events],
        "eventAttributes": [
            {"prefix": prefix, "label": label, "kind": kind} for prefix, (label, kind, _) in EVENT_ATTRIBUTES.items()
        ],
        "segments": [
            {"id": one.pk, "name": one.name, "rules": one.rules}
            for one in Audience.objects.segments().order_by("name")[: lookups.MENU_LIMIT]
        ],
    }


def presets(offered: Catalogue) -> list[dict[str, Any]]:
    """Return the rules that one click adds. An empty attribute is an event that the author chooses."""
    trials = [
        f"{CUSTOM}{key}" for key, kind in offered.customer.items() if kind is Kind.DATE and "trial" in key.lower()
    ]
    trials += [
        f"{COMPANY_CUSTOM}{key}"
        for key, kind in offered.company.items()
        if kind is Kind.DATE and "trial" in key.lower()
    ]
    trial = [preset_rule(name, Operator.EXACTLY_DAYS_FROM_NOW, 3) for name in sorted(trials)[:1]]
    unused = [
        preset_rule("signed_up_at", Operator.MORE_THAN_DAYS_AGO, 3),
        preset_rule("", Operator.HAS_NOT_HAPPENED),
    ]
    found = [
        ("Trial ends in N days", trial, False),
        ("First time someone does X", [preset_rule("", Operator.HAS_HAPPENED)], True),
        ("Signed up N days ago and has not done X", unused, False),
        ("Not seen for N days", [preset_rule("last_seen_at", Operator.MORE_THAN_DAYS_AGO, 30)], False),
    ]
    return [{"label": label, "rules": rules, "onlyNew": only_new} for label, rules, only_new in found if rules]


def preset_rule(attribute: str, operator: Operator, value: object = "") -> dict[str, Any]:
    return {"attribute": attribute, "operator": operator.value, "value": value}


def leaves_of(stored: Any) -> Iterator[dict[str, Any]]:
    """Yield the rules of stored JSON, or of its text, without validation."""
    if isinstance(stored, str):
        try:
            stored = json.loads(stored)
        except (ValueError, RecursionError):
            return
    if not isinstance(stored, dict):
        return
    within = stored.get("rules")
    if isinstance(within, list):
        for one in within:
            yield from leaves_of(one)
    elif "attribute" in stored:
        yield stored


def operator_option(kind: Kind, one: Operator) -> dict[str, str]:
    takes = "" if one in OPERATORS_WITHOUT_VALUE else value_kind(kind, one)
    return {
        "name": one.value,
        "label": LABELS[one],
        "takes": "choice" if kind in lookups.KINDS_BY_ID and takes else takes,
    }


def attribute_groups(named: set[str], *, offered: Catalogue, events: list[str]) -> list[dict[str, Any]]:
    """Return the menu of attributes for rules; it includes the `named` ones even if they are retired."""
    catalogue = CustomAttribute.objects.catalogue()
    custom = {f"{CUSTOM}{key}" for key in offered.customer} | {f"{CUSTOM}{key}" for key in catalogue.customer} & named
    of_company = {f"{COMPANY_CUSTOM}{key}" for key in offered.company}
    of_company |= {f"{COMPANY_CUSTOM}{key}" for key in catalogue.company} & named
    of_rules = (
        name.removeprefix(prefix) for name in sorted(named) for prefix in EVENT_ATTRIBUTES if name.startswith(prefix)
    )
    events = list(dict.fromkeys([*events, *of_rules]))
    about: dict[About, list[str]] = {}
    for name, attribute in BY_NAME.items():
        if name not in DETAILS:
            about.setdefault(attribute.about, []).append(name)
    menu = {
        "Customer": about[About.CUSTOMER],
        "Custom attributes": sorted(custom),
        "Events": [f"{prefix}{event}" for event in events for prefix in EVENT_ATTRIBUTES],
        "Company": about[About.COMPANY],
        "Company’s custom attributes": sorted(of_company),
        "Messages": about[About.MESSAGE],
        "More about the customer": list(DETAILS),
    }
    return [
        {"label": label, "attributes": [attribute_option(find_attribute(name, catalogue=catalogue)) for name in names]}
        for label, names in menu.items()
        if names
    ]


def attribute_option(attribute: Attribute) -> dict[str, str]:
    key = attribute.key if attribute.about is not About.EVENT and attribute.key != attribute.label else ""
    return {"name": attribute.name, "label": attribute.label, "kind": attribute.kind, "key": key}


def name_choices(named: set[Any]) -> tuple[dict[str, list[list[Any]]], list[str]]:
    """Return the names to choose from by kind, and the kinds with more names than a menu holds."""
    offered: dict[str, list[list[Any]]] = {
        Kind.TEAMMATE: [
            [user.pk, lookups.teammate_name(user)] for user in User.objects.filter(is_staff=True).order_by("username")
        ],
        Kind.ROLE: [[value, label] for value, label in Role.choices],
    }
    more: list[str] = []
    for kind, (rows, by) in lookups.NAMED_KINDS.items():
        first = list(rows.order_by("-pk" if kind is Kind.MESSAGE else by)[: lookups.MENU_LIMIT + 1])
        if len(first) > lookups.MENU_LIMIT:
            more.append(kind)
            first += list(rows.filter(pk__in=named - {row.pk for row in first}))
        offered[kind] = [[row.pk, str(row)] for row in first]
    return offered, more


def variables(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Return the variables that can be inserted, in the groups of the menu."""
    standard = list(content.VARIABLES.items())
    return [
        {"label": "Customer", "names": [pair for pair in standard if not pair[0].startswith("company.")]},
        {
            "label": "Custom attributes",
            "names": [[f"{CUSTOM}{key}", catalogue.label_of(f"{CUSTOM}{key}")] for key in sorted(catalogue.customer)],
        },
        {
            "label": "Company (sends once per company)",
            "names": [
                *(pair for pair in standard if pair[0].startswith("company.")),
                *(
                    [f"{COMPANY_CUSTOM}{key}", catalogue.label_of(f"{COMPANY_CUSTOM}{key}")]
                    for key in sorted(catalogue.company)
                ),
            ],
        },
    ]


def window_times() -> dict[str, list[Any]]:
    """Return the days and half hours of a delivery window."""
    clock = [
        f"{minutes // 60:02}:{minutes % 60:02}"
        for minutes in range(0, delivery_window.FULL_DAY, delivery_window.HALF_HOUR)
    ]
    return {"days": list(delivery_window.DAYS), "from": clock, "to": [*clock[1:], "24:00"]}
