"""What the composer offers: the attributes and operators of the rule builder, names to choose, variables to insert."""

from typing import Any

from django.contrib.auth.models import User

from audiences.attributes import (
    BY_NAME,
    COMPANY_CUSTOM,
    CUSTOM,
    DETAILS,
    EVENTS,
    About,
    Attribute,
    Catalogue,
    find,
)
from audiences.models import Audience, CustomAttribute, EventSummary, Tag
from audiences.models.customers import Role
from audiences.rules import LABELS, MOST_DEPTH, NEGATIVE, OPERATORS, WITHOUT_VALUE, Group, Kind, Operator, value_kind
from messaging import content, windows
from messaging.models import Message

MOST_NAMES = 500
MOST_EVENTS = 200
IDS = {Kind.TAG, Kind.SEGMENT, Kind.MESSAGE, Kind.TEAMMATE, Kind.ROLE}


def rule_builder(tree: Group | None = None) -> dict[str, Any]:
    """Everything the rule builder needs; what `tree` already names is among the choices, however many there are."""
    named = {rule.value for rule in tree.leaves()} if tree else set()
    return {
        "groups": attribute_groups(),
        "operators": {kind: [operator(kind, one) for one in OPERATORS[kind]] for kind in Kind},
        "choices": choices(named),
        "negative": [one.value for one in NEGATIVE],
        "deepest": MOST_DEPTH,
        "segments": [
            {"id": one.pk, "name": one.name, "rules": one.rules}
            for one in Audience.objects.segments().order_by("name")[:MOST_NAMES]
        ],
    }


def operator(kind: Kind, one: Operator) -> dict[str, str]:
    """An operator, and what value it takes."""
    takes = "" if one in WITHOUT_VALUE else value_kind(kind, one)
    return {"name": one.value, "label": LABELS[one], "takes": "choice" if kind in IDS and takes else takes}


def attribute_groups() -> list[dict[str, Any]]:
    """The attributes a rule can ask about, as the menu shows them."""
    catalogue = CustomAttribute.objects.catalogue()
    events = EventSummary.objects.all().names(most=MOST_EVENTS)
    about: dict[About, list[str]] = {}
    for name, attribute in BY_NAME.items():
        if name not in DETAILS:
            about.setdefault(attribute.about, []).append(name)
    menu = {
        "Customer": about[About.CUSTOMER],
        "Custom attributes": [f"{CUSTOM}{key}" for key in sorted(catalogue.customer)],
        "Events": [f"{prefix}{event}" for event in events for prefix in EVENTS],
        "Company": about[About.COMPANY],
        "Company’s custom attributes": [f"{COMPANY_CUSTOM}{key}" for key in sorted(catalogue.company)],
        "Messages": about[About.MESSAGE],
        "More about the customer": list(DETAILS),
    }
    return [
        {"label": label, "attributes": [entry(find(name, catalogue=catalogue)) for name in names]}
        for label, names in menu.items()
        if names
    ]


def entry(attribute: Attribute) -> dict[str, str]:
    """One attribute of the menu."""
    return {"name": attribute.name, "label": attribute.label, "kind": attribute.kind}


def choices(named: set[Any]) -> dict[str, list[list[Any]]]:
    """The names to choose from, by kind."""

    def pick(rows: Any, *, by: str) -> list[list[Any]]:
        first = list(rows.order_by(by)[:MOST_NAMES])
        there = {row.pk for row in first}
        wanted = [pk for pk in named if isinstance(pk, int) and pk not in there]
        rest = list(rows.filter(pk__in=wanted)) if wanted and len(first) == MOST_NAMES else []
        return [[row.pk, str(row)] for row in (*first, *rest)]

    return {
        Kind.TAG: pick(Tag.objects.all(), by="name"),
        Kind.SEGMENT: pick(Audience.objects.segments(), by="name"),
        Kind.MESSAGE: pick(Message.objects.to_audiences(), by="-pk"),
        Kind.TEAMMATE: [[user.pk, name_of(user)] for user in User.objects.filter(is_staff=True).order_by("username")],
        Kind.ROLE: [[value, label] for value, label in Role.choices],
    }


def name_of(user: User | None) -> str:
    """What a teammate is called."""
    return (user.get_full_name() or user.get_username()) if user else "Nobody"


def variables(catalogue: Catalogue) -> list[dict[str, Any]]:
    """The variables that can be inserted, grouped as the menu shows them."""
    standard = list(content.VARIABLES.items())
    return [
        {"label": "Customer", "names": [pair for pair in standard if not pair[0].startswith("company.")]},
        {"label": "Custom attributes", "names": [[f"{CUSTOM}{key}", key] for key in sorted(catalogue.customer)]},
        {
            "label": "Company (sends once per company)",
            "names": [
                *(pair for pair in standard if pair[0].startswith("company.")),
                *([f"{COMPANY_CUSTOM}{key}", f"Company {key}"] for key in sorted(catalogue.company)),
            ],
        },
    ]


def times() -> dict[str, list[Any]]:
    """The days and half hours of a delivery window."""
    clock = [f"{minutes // 60:02}:{minutes % 60:02}" for minutes in range(0, windows.FULL_DAY, windows.HALF_HOUR)]
    return {"days": list(windows.DAYS), "from": clock, "to": [*clock[1:], "24:00"]}
