"""Variables of a message: the available ones, those that a text uses, validation of a text, and their values."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from difflib import get_close_matches

from liquid import BoundTemplate

from messaging.content.liquid import FILTERS
from messaging.content.parser import ContentError, line_of, parse_template, render_template, unescape_liquid, walk_nodes

VARIABLES: dict[str, str] = {
    "first_name": "First name",
    "last_name": "Last name",
    "name": "Name",
    "email": "Email",
    "user_id": "User ID",
    "phone": "Phone",
    "country": "Country",
    "city": "City",
    "timezone": "Time zone",
    "language": "Language",
    "browser": "Browser",
    "os": "Operating system",
    "session_count": "Web sessions",
    "signed_up_at": "Signed up",
    "first_seen_at": "First seen",
    "last_seen_at": "Last seen",
    "last_contacted_at": "Last contacted",
    "last_heard_from_at": "Last heard from",
    "company.name": "Company name",
    "company.company_id": "Company ID",
    "company.plan": "Company plan",
    "company.size": "Company size",
    "company.industry": "Company industry",
    "company.website": "Company website",
    "company.monthly_spend": "Company monthly spend",
    "company.created_at": "Company created",
    "company.last_seen_at": "Company last seen",
}
UNSUBSCRIBE_URL = "unsubscribe_url"
# Supplied by the delivery when it renders a copy; `variable_values` does not return them.
DELIVERY_VARIABLES = {UNSUBSCRIBE_URL}
CUSTOM_PREFIX = "custom_attributes."
COMPANY_PREFIX = "company."
COMPANY_CUSTOM_PREFIX = "company.custom_attributes."
RESERVED_NAMES = {name.partition(".")[0] for name in VARIABLES} | DELIVERY_VARIABLES | {"custom_attributes", "tracking"}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A reason why a text cannot be saved, with its line."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"Line {self.line}: {self.reason}"


def check_text(text: str, *, custom_attributes: Collection[str], company_attributes: Collection[str]) -> list[Problem]:
    """Return the problems of a text, sorted by line; empty if it can be saved.

    Call `sanitise` on rich text first, because it may remove parts of the Liquid. The text must also render for a
    customer without any values.
    """
    source = unescape_liquid(text)
    try:
        template = parse_template(source)
        known = {
            *VARIABLES,
            *DELIVERY_VARIABLES,
            *(CUSTOM_PREFIX + name for name in custom_attributes),
            *(COMPANY_CUSTOM_PREFIX + name for name in company_attributes),
        }
        problems = sorted(
            {
                *_unknown_variables(template, source, known),
                *_unknown_filters(template, source),
                *_reserved_names(template, source),
            }
        )
        if not problems:
            render_template(template, {})
    except ContentError as error:
        return [Problem(error.line, str(error))]
    return problems


def variables_in(text: str) -> frozenset[str]:
    """Return the dotted names of the variables that a text uses. Raise ContentError if it is invalid."""
    return frozenset(name for name, _ in _variable_uses(parse_template(unescape_liquid(text))))


def fill_in(line: str, facts: Mapping[str, object] | None = None) -> str:
    """Return a line for lists: with a customer's facts, or with the names of its variables in brackets.

    An invalid line stays as it is.
    """
    try:
        template = parse_template(unescape_liquid(line))
        names = frozenset(name for name, _ in _variable_uses(template))
        labels = {name: f"[{name.rpartition('.')[2].replace('_', ' ')}]" for name in names}
        values = labels if facts is None else variable_values(names, facts)
        return " ".join(render_template(template, nest_values(values)).split())
    except ContentError:
        return line


def uses_company(*texts: str) -> bool:
    """Return whether any text uses a company variable, so that the message is sent once for each company."""
    return any(f"{name}.".startswith(COMPANY_PREFIX) for text in texts for name in variables_in(text))


def variable_values(names: Iterable[str], facts: Mapping[str, object]) -> dict[str, object]:
    """Return the current values of the named variables, as JSON; unknown values are left out.

    `facts` are the customer's fields, with the mappings `custom_attributes` and `company` (None: no company). A missing
    first or last name is derived from the name.
    """
    picked = (
        (name, _json_value(_lookup_fact(name, facts))) for name in sorted(names) if name not in DELIVERY_VARIABLES
    )
    return {name: value for name, value in picked if value is not None}


def needed_facts(names: Iterable[str]) -> frozenset[str]:
    """Return the columns from which `variable_values` takes these variables; "company.plan" is one of the company."""
    return frozenset(map(_needed_fact, names))


def _needed_fact(name: str) -> str:
    prefix = COMPANY_PREFIX if name.startswith(COMPANY_PREFIX) else ""
    fact = name.removeprefix(prefix).partition(".")[0]
    return prefix + COLUMNS_BY_FACT.get(fact, fact)


# The columns of facts that have another name in texts.
COLUMNS_BY_FACT = {
    "first_name": "name",
    "last_name": "name",
    "custom_attributes": "attributes",
    "created_at": "remote_created_at",
}


def nest_values(by_name: Mapping[str, object]) -> dict[str, object]:
    """Convert values by dotted name to the nested mappings that Liquid reads."""
    values: dict[str, object] = {}
    for name, value in by_name.items():
        *path, key = variable_path(name)
        inside = values
        for step in path:
            inside = inside.setdefault(step, {})  # type: ignore[assignment]
        inside[key] = value
    return values


def variable_path(name: str) -> list[str]:
    """Split a dotted name into its keys."""
    # The name of a custom attribute may contain dots itself.
    return name.split(".", COMPANY_CUSTOM_PREFIX.count(".") if name.startswith(COMPANY_CUSTOM_PREFIX) else 1)


def _variable_uses(template: BoundTemplate) -> Iterator[tuple[str, int]]:
    for uses in template.analyze(include_partials=False).globals.values():
        for use in uses:
            yield ".".join(map(str, use.segments)), use.span.index


def _unknown_variables(template: BoundTemplate, source: str, known: Collection[str]) -> Iterator[Problem]:
    for name, index in _variable_uses(template):
        if name not in known:
            likely = [n for n in (CUSTOM_PREFIX + name, f"{name}.name") if n in known] or get_close_matches(
                name, known, n=1
            )
            hint = f' Did you mean "{likely[0]}"?' if likely else ""
            yield Problem(line_of(source, index), f'There is no variable "{name}".{hint}')


def _unknown_filters(template: BoundTemplate, source: str) -> Iterator[Problem]:
    for name, uses in template.analyze(include_partials=False).filters.items():
        if name not in FILTERS:
            yield from (Problem(line_of(source, use.index), f'There is no filter "{name}".') for use in uses)


def _reserved_names(template: BoundTemplate, source: str) -> Iterator[Problem]:
    # Otherwise a text could hide that it uses a company: `{% if false %}{% assign company = 1 %}{% endif %}`.
    for node, expression in walk_nodes(template):
        if expression is None:
            for name in {*node.template_scope(), *node.block_scope()} & RESERVED_NAMES:
                line = line_of(source, node.token.start_index)
                yield Problem(line, f'"{name}" is already a variable of every message. Choose another name.')


def _lookup_fact(name: str, facts: Mapping[str, object]) -> object:
    value: object = facts
    for step in variable_path(name):
        value = value.get(step) if isinstance(value, Mapping) else None
    if value in (None, "") and name in NAME_PARTS and facts.get("name"):
        return NAME_PARTS[name](str(facts["name"]).split()) or None
    return value


NAME_PARTS: dict[str, Callable[[list[str]], str]] = {
    "first_name": lambda words: " ".join(words[:1]),
    "last_name": lambda words: " ".join(words[1:]),
}


def _json_value(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            return None
        if value == int(value):
            return int(value)
        return float(value) if Decimal(repr(float(value))) == Decimal(str(value)) else str(value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(str(_json_value(item)) for item in value)
    return str(value)
