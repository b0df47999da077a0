"""Custom attributes in incoming data. The first known value of an attribute decides its kind.

behaviour 3 'Attribute catalogue'. New attributes are inserted before any row is locked, in one statement and in the
order of their names, so that two requests that add the same attributes cannot deadlock.
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
# Browsers send these for missing values (behaviour 6.2).
UNKNOWN_VALUES = (None, "", "undefined", "null")

Kinds = Mapping[tuple[Scope, str], Kind]


class UndeclaredAttribute(Exception):
    """The data has an attribute that is not in the catalogue yet."""


def is_unknown(value: object) -> bool:
    """Return whether a value stands for a missing one."""
    return value is None or (isinstance(value, str) and (value in UNKNOWN_VALUES or not value.strip()))


def check_name(name: str) -> None:
    """Raise Refused if a custom attribute cannot have this name."""
    if not name.strip() or len(name) > MAX_NAME_LENGTH:
        raise Refused(
            f"A custom attribute name must have 1 to {MAX_NAME_LENGTH} characters.", field=name[:MAX_NAME_LENGTH]
        )
    if "." in name or "$" in name:
        raise Refused(f"The name of the custom attribute {quoted_value(name)} must not contain “.” or “$”.", field=name)
    if UNSTORABLE.search(name) or not name.isprintable():
        raise Refused(
            f"The name of the custom attribute {quoted_value(name)} contains a character that cannot be stored.",
            field=name,
        )


def check_value(name: str, value: object) -> None:
    """Raise Refused if a custom attribute of any kind cannot have this value."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        check_number(value, name)
    elif not isinstance(value, str):
        raise Refused(
            f"The custom attribute {quoted_value(name)} must be a single value: a string, a number, true or false.",
            field=name,
        )
    elif len(value) > MAX_TEXT_LENGTH:
        raise Refused(
            f"The custom attribute {quoted_value(name)} is longer than {MAX_TEXT_LENGTH} characters.", field=name
        )
    elif UNSTORABLE.search(value):
        raise Refused(
            f"The custom attribute {quoted_value(name)} contains a character that cannot be stored.", field=name
        )


def infer_kind(name: str, value: object) -> Kind:
    """Return the kind for a first value. A name that ends in _at means a date if the value can be one."""
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if name.endswith("_at"):
        try:
            as_seconds(value)
        except ConversionError:
            if not isinstance(value, str):
                read_seconds(value, name)  # Raises the precise error: out of range, or not a whole number.
        else:
            return Kind.DATE
    return Kind.TEXT if isinstance(value, str) else Kind.NUMBER


def check_attributes(sent: Mapping[str, Any], *, on_bad_value: OnBadValue = raise_refusal) -> dict[str, Any]:
    """Return the attributes that could be stored as some kind, with None for unknown values."""
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
    """Return the kind of every attribute with a value. Add new attributes to the catalogue if `source` may.

    `memory` is a cache of kinds to use and extend. With it no attribute is added; raises UndeclaredAttribute instead.
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
    """Add these attributes to the catalogue with the kinds of their values, and return the kinds."""
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
    # If another request adds a name first, its kind counts; hence the kinds are read again.
    CustomAttribute.objects.bulk_create(
        [CustomAttribute(scope=scope, name=name, kind=kind, created_at=at) for (scope, name), kind in new.items()],
        ignore_conflicts=True,
    )
    return declared_kinds(new)


def catalogue_room(scope: Scope, *, source: Source) -> int:
    """Return how many attributes this source may add now."""
    if not CATALOGUE_LIMITS[source]:
        return 0
    return max(0, CATALOGUE_LIMITS[source] - CustomAttribute.objects.offered().filter(scope=scope).count())


def catalogue_full_error(scope: Scope, name: str, *, kind: Kind, source: Source) -> Refused:
    """Return the error for a new attribute that this source may not add."""
    full = f"there are already {CATALOGUE_LIMITS[source]} custom attributes."
    if source is Source.REST:
        return BadAttribute(
            f"{quoted_value(name)} cannot be added: {full} Retire attributes that are not used.", field=name
        )
    cause = {
        Source.PROVED_BROWSER: f"{quoted_value(name)} cannot be added from a browser: {full}",
        Source.BROWSER: (
            f"The custom attribute {quoted_value(name)} is new. Pages without a valid user_hash cannot add attributes."
        ),
    }[source]
    reason = f"{cause} Accept it in Outbound’s console, or send it from your server."
    return NotInCatalogue(reason, field=name, of=scope, name=name, kind=kind)


def cached_kinds(
    keys: Iterable[tuple[Scope, str]], memory: dict[tuple[Scope, str], Kind]
) -> dict[tuple[Scope, str], Kind]:
    """Return the same as `declared_kinds`, and query only for attributes that are not in `memory`."""
    keys = list(keys)
    if asked := [key for key in keys if key not in memory]:
        memory |= declared_kinds(asked)
    return {key: memory[key] for key in keys if key in memory}


def declared_kinds(keys: Iterable[tuple[Scope, str]]) -> dict[tuple[Scope, str], Kind]:
    """Return the kinds of those attributes that are in the catalogue."""
    wanted = Q()
    for scope in Scope:
        wanted |= Q(scope=scope, name__in=[name for of, name in keys if of == scope])
    rows = CustomAttribute.objects.filter(wanted).values_list("scope", "name", "kind")
    return {(Scope(scope), name): Kind(kind) for scope, name, kind in rows}


def coerce_values(
    checked: Mapping[str, Any], *, scope: Scope, kinds: Kinds, on_bad_value: OnBadValue = raise_refusal
) -> dict[str, Any]:
    """Return checked values converted to their kinds, None for unknown ones."""
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
                    f"The custom attribute {quoted_value(name)} is {KIND_NAMES[kind]};"
                    f" {quoted_value(value)} is not a valid value for it."
                )
                on_bad_value(BadAttribute(reason, field=name))
    return values


def merge_values(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored values with the changes applied. A change to None removes the value."""
    return {name: value for name, value in {**stored, **changes}.items() if value is not None}
