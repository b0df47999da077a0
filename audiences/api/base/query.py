"""Validation of query parameters: undeclared ones are refused, so that no filter is silently ignored."""

from collections.abc import Iterable, Sequence

from django.http import QueryDict

from audiences.api.base.openapi import Parameter
from audiences.intake import Refused
from audiences.intake.attributes.fields import quoted_value

# Parameters of paging, sorting and format. Clients send them to every list; they do not filter.
ALWAYS_ALLOWED = frozenset({"page", "per_page", "order", "sort", "display_as", "include_count"})
# An empty cursor means the beginning.
CURSORS = frozenset({"scroll_param", "before"})


def check_query(query: QueryDict, declared: Sequence[Parameter]) -> None:
    """Refuse a parameter that the call does not declare, one without a value, and one with two different values."""
    names = [parameter.name for parameter in declared]
    for name, values in query.lists():
        if name in ALWAYS_ALLOWED:
            continue
        if name not in names:
            known = f"It accepts {', '.join(names)}." if names else "It accepts none."
            raise Refused(f"{quoted_value(name)} is not a parameter of this call. {known}", field=name[:50])
        if len(set(values)) > 1:
            raise Refused(f"{name} is given twice, with different values.", field=name)
        if not values[-1].strip() and name not in CURSORS:
            raise Refused(f"{name} is empty. Give it a value or omit it.", field=name)


def given_parameters(query: QueryDict, parameters: Iterable[Parameter]) -> list[str]:
    """Return the names of the parameters that are present in the query."""
    return [parameter.name for parameter in parameters if parameter.name in query]


def refuse_without_effect(query: QueryDict, parameters: Iterable[Parameter], *, because: str) -> None:
    """Refuse parameters that would have no effect in this query. `because` is the reason for the caller."""
    if useless := given_parameters(query, parameters):
        raise Refused(f"{useless[0]} has no effect here: {because}", field=useless[0])
