"""Custom attributes on their way in: what kind each is, learnt from its first real value.

behaviour 3 'Attribute catalogue'. Learning comes before any row is locked and in one statement in the order of the
names, so that two requests that learn the same attributes wait for each other and never in a circle.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import InvalidOperation
from typing import Any

from django.db.models import Q

from audiences.intake.attributes.coercion import READ_AS, ConversionError, as_seconds
from audiences.intake.attributes.fields import (
    MAX_TEXT_LENGTH,
    UNSTORABLE,
    BadAttribute,
    NotInCatalogue,
    OnBadValue,
    Refused,
    check_number,
    quoted_value,
    raise_refusal,
    read_seconds,
)
from audiences.intake.source import CATALOGUE_LIMITS, Source
from audiences.models import CustomAttribute
from audiences.models.catalogue import Scope
from audiences.rules import KIND_NAMES, Kind

MAX_NAME_LENGTH = 190
# What browsers send for a value they do not have (behaviour 6.2).
UNKNOWN_VALUES = (None, "", "undefined", "null")

Kinds = Mapping[tuple[Scope, str], Kind]


class UndeclaredAttribute(Exception):
    """An attribute nobody has sent before would have to be learnt."""


def is_unknown(value: object) -> bool:
    """Whether a value says that there is none."""
    return value is None or (isinstance(value, str) and (value in UNKNOWN_VALUES or not value.strip()))


def check_name(name: str) -> None:
    """Refuse a name no custom attribute can have."""
    if not name.strip() or len(name) > MAX_NAME_LENGTH:
        raise Refused(f"A custom attribute's name has 1 to {MAX_NAME_LENGTH} characters.", field=name[:MAX_NAME_LENGTH])
    if "." in name or "$" in name:
        raise Refused(f"The name of the custom attribute {quoted_value(name)} must not contain “.” or “$”.", field=name)
    if UNSTORABLE.search(name) or not name.isprintable():
        raise Refused(f"The name of the custom attribute {quoted_value(name)} cannot be stored.", field=name)


def check_value(name: str, value: object) -> None:
    """Refuse a value no custom attribute of any kind can have."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        check_number(value, name)
    elif not isinstance(value, str):
        raise Refused(
            f"The custom attribute {quoted_value(name)} must be one flat value: text, number, true or false.",
            field=name,
        )
    elif len(value) > MAX_TEXT_LENGTH:
        raise Refused(
            f"The custom attribute {quoted_value(name)} is longer than {MAX_TEXT_LENGTH} characters.", field=name
        )
    elif UNSTORABLE.search(value):
        raise Refused(f"The custom attribute {quoted_value(name)} holds a character that cannot be stored.", field=name)


def infer_kind(name: str, value: object) -> Kind:
    """Return the kind a first real value teaches; a key that ends in _at is a date where the value can be one."""
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if name.endswith("_at"):
        try:
            as_seconds(value)
        except ConversionError:
            if not isinstance(value, str):
                read_seconds(value, name)  # Says what is wrong: out of range, or no whole number.
        else:
            return Kind.DATE
    return Kind.TEXT if isinstance(value, str) else Kind.NUMBER


def check_attributes(sent: Mapping[str, Any], *, on_bad_value: OnBadValue = raise_refusal) -> dict[str, Any]:
    """Return what of the sent names and values could be stored at all, None for unknown ones."""
    checked: dict[str, Any] = {}
    for name, value in sent.items():
        try:
            check_name(name)
            if not is_unknown(value):
                check_value(name, value)
        except Refused as wrong:
            on_bad_value(BadAttribute(str(wrong), field=wrong.field))
        else:
            checked[name] = None if is_unknown(value) else value
    return checked


def kinds_of(
    checked: Iterable[tuple[Scope, Mapping[str, Any]]],
    *,
    at: datetime,
    source: Source,
    on_bad_value: OnBadValue = raise_refusal,
    memory: dict[tuple[Scope, str], Kind] | None = None,
) -> Kinds:
    """Return the kind of every attribute that has a value here, learning new ones that `source` may add.

    With a `memory`, what is in it is not asked for again, what is found is put there, and nothing is learnt: Unlearnt.
    """
    values: dict[tuple[Scope, str], Any] = {}
    for scope, attributes in checked:
        for name, value in attributes.items():
            if value is not None:
                values.setdefault((scope, name), value)
    if not values:
        return {}
    kinds = declared_kinds(values) if memory is None else cached_kinds(values, memory)
    new = {key: values[key] for key in values.keys() - kinds.keys()}
    if new and memory is not None and CATALOGUE_LIMITS[source]:
        raise UndeclaredAttribute
    return kinds | learn_kinds(new, at=at, source=source, on_bad_value=on_bad_value)


def learn_kinds(
    values: Mapping[tuple[Scope, str], Any], *, at: datetime, source: Source, on_bad_value: OnBadValue
) -> dict[tuple[Scope, str], Kind]:
    """Learn what kind these attributes are from their first real values, and return it."""
    new: dict[tuple[Scope, str], Kind] = {}
    for key in sorted(values):
        try:
            new[key] = infer_kind(key[1], values[key])
        except Refused as wrong:
            on_bad_value(BadAttribute(str(wrong), field=wrong.field))
    for scope in Scope:
        learning = [key for key in new if key[0] == scope]
        for key in learning[catalogue_room(scope, source=source) if learning else 0 :]:
            on_bad_value(catalogue_full_error(*key, kind=new.pop(key), source=source))
    if not new:
        return {}
    # Who loses the race to learn a name finds the winner's kind when reading again.
    CustomAttribute.objects.bulk_create(
        [CustomAttribute(scope=scope, name=name, kind=kind, created_at=at) for (scope, name), kind in new.items()],
        ignore_conflicts=True,
    )
    return declared_kinds(new)


def catalogue_room(scope: Scope, *, source: Source) -> int:
    """Return how many attributes this sender may add now."""
    if not CATALOGUE_LIMITS[source]:
        return 0
    return max(0, CATALOGUE_LIMITS[source] - CustomAttribute.objects.offered().filter(scope=scope).count())


def catalogue_full_error(scope: Scope, name: str, *, kind: Kind, source: Source) -> Refused:
    """Return why this sender adds no such attribute now."""
    full = f"There are {CATALOGUE_LIMITS[source]} custom attributes already, so {quoted_value(name)} cannot be added"
    if source is Source.REST:
        return BadAttribute(f"{full}. Retire attributes that nothing uses.", field=name)
    reason = {
        Source.PROVED_BROWSER: f"{full} by a page. Accept it in Outbound’s console, or send it from your server.",
        Source.BROWSER: (
            f"The custom attribute {quoted_value(name)} is new, and a page without a valid user_hash adds none."
            " Accept it in"
            " Outbound’s console, or send it from your server."
        ),
    }[source]
    return NotInCatalogue(reason, field=name, of=scope, name=name, kind=kind)


def cached_kinds(
    keys: Iterable[tuple[Scope, str]], memory: dict[tuple[Scope, str], Kind]
) -> dict[tuple[Scope, str], Kind]:
    """Do what `declared_kinds` does, asking only for those that are not in the memory yet."""
    keys = list(keys)
    if asked := [key for key in keys if key not in memory]:
        memory |= declared_kinds(asked)
    return {key: memory[key] for key in keys if key in memory}


def declared_kinds(keys: Iterable[tuple[Scope, str]]) -> dict[tuple[Scope, str], Kind]:
    """Read from the catalogue what kind these are."""
    wanted = Q()
    for scope in Scope:
        wanted |= Q(scope=scope, name__in=[name for of, name in keys if of == scope])
    rows = CustomAttribute.objects.filter(wanted).values_list("scope", "name", "kind")
    return {(Scope(scope), name): Kind(kind) for scope, name, kind in rows}


def coerce_values(
    checked: Mapping[str, Any], *, scope: Scope, kinds: Kinds, on_bad_value: OnBadValue = raise_refusal
) -> dict[str, Any]:
    """Return checked values as their kinds have them, None for unknown ones."""
    values: dict[str, Any] = {}
    for name, value in checked.items():
        if value is None:
            values[name] = None
        elif (scope, name) in kinds:
            kind = kinds[scope, name]
            try:
                values[name] = READ_AS[kind](check_number(value, name) if type(value) in (int, float) else value)
            except (ConversionError, InvalidOperation):
                reason = (
                    f"The custom attribute {quoted_value(name)} is {KIND_NAMES[kind]},"
                    f" which {quoted_value(value)} is not."
                )
                on_bad_value(BadAttribute(reason, field=name))
    return values


def merge_values(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored values with the changes made; what became unknown is no longer there."""
    return {name: value for name, value in {**stored, **changes}.items() if value is not None}
