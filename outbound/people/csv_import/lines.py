"""Lines of an import as its page lists them: the customer, and the effect in words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils import formats, timezone

from audiences.attributes import CUSTOM
from audiences.intake import csv_import
from audiences.intake.attributes.fields import quoted_value
from audiences.intake.csv_import import LineEffect
from audiences.models import Company, CustomAttribute, Customer, Import, Tag
from audiences.rules import Kind

LINES_PER_PAGE = 100
LABELS = {"archived_at": "Archived", "tags": "Tags", "companies": "Companies"}
# Fields that only accompany the others.
ACCOMPANYING = {"email_is_said", "role", "first_seen_at", "opt_out_is_of_address"}
MOMENTS = {"signed_up_at", "last_seen_at", "archived_at"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRow:
    """One line of the list. `customer` is None if the line was not imported, or the customer no longer exists."""

    line: int
    customer: Customer | None
    words: Sequence[str]
    undone: bool
    kept_because: str


def line_rows(job: Import, *, after: int) -> tuple[list[LineRow], int | None]:
    """Return the lines of a page, and the line after which the next page begins, or None if there is none."""
    effects = csv_import.effects_of(job, after=after, limit=LINES_PER_PAGE + 1)
    shown = effects[:LINES_PER_PAGE]
    customers = Customer.objects.in_bulk({effect.customer for effect in shown if effect.customer is not None})
    declared = CustomAttribute.objects.catalogue().customer
    names = {
        "tags": dict(Tag.objects.filter(pk__in=keys_of(shown, "tags")).values_list("pk", "name")),
        "companies": {it.pk: str(it) for it in Company.objects.filter(pk__in=keys_of(shown, "companies"))},
    }
    rows = [
        LineRow(
            line=effect.line,
            customer=customers.get(effect.customer) if effect.customer is not None else None,
            words=effect_words(effect, declared=declared, names=names),
            undone=effect.undo == "undone",
            kept_because=effect.kept_because,
        )
        for effect in shown
    ]
    return rows, shown[-1].line if len(effects) > LINES_PER_PAGE else None


def keys_of(effects: Iterable[LineEffect], name: str) -> set[int]:
    return {key for effect in effects for key in (effect.changes or {}).get(name, ())}


def effect_words(effect: LineEffect, *, declared: Mapping[str, Kind], names: dict[str, dict[int, str]]) -> list[str]:
    """Describe the effect of a line, one text per field."""
    if effect.error:
        return [f"Skipped. {effect.error}"]
    if effect.created:
        return ["Created"]
    if effect.changes is None:
        return ["Changed. The values were erased with the customer’s data."]
    words = []
    for name, value in sorted(effect.changes.items()):
        if name in names:
            found = ", ".join(quoted_value(names[name].get(key, "deleted")) for key in value)
            words.append(f"{LABELS[name]}: added {found}")
        elif name == "archived_at":
            words.append("Restored from the archive")
        elif name not in ACCOMPANYING:
            is_date = declared.get(name.removeprefix(CUSTOM)) is Kind.DATE and name.startswith(CUSTOM)
            old, new = (value_text(name, it, is_date=is_date) for it in value)
            words.append(f"{csv_import.field_label(name)}: {old} → {new}")
    return words


def value_text(name: str, value: Any, *, is_date: bool) -> str:
    if value in (None, ""):
        return "empty"
    if is_date and isinstance(value, int | float):
        return moment_text(datetime.fromtimestamp(value, tz=UTC))
    if name in MOMENTS:
        return moment_text(datetime.fromisoformat(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return quoted_value(value)


def moment_text(moment: datetime) -> str:
    return formats.date_format(timezone.localtime(moment), "j M Y, H:i")
