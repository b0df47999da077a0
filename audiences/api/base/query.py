"""Query parameters of a call: only those it declares are taken, so that no filter is silently ignored."""

from collections.abc import Iterable, Sequence

from django.http import QueryDict

from audiences.api.base.openapi import Parameter
from audiences.intake import Refused
from audiences.intake.attributes.fields import quoted_value

# These choose a page, an order or a form of the answer. Clients send them to every list; none of them narrows a list.
ALWAYS_ALLOWED = frozenset({"page", "per_page", "order", "sort", "display_as", "include_count"})
# Cursors: an empty one means the beginning.
CURSORS = frozenset({"scroll_param", "before"})


def check_query(query: QueryDict, declared: Sequence[Parameter]) -> None:
    """Refuse a parameter that the call does not declare, one without a value, and one with two different values."""
    names = [parameter.name for parameter in declared]
    for name, values in query.lists():
        if name in ALWAYS_ALLOWED:
            continue
        if name not in names:
            known = f"It takes {', '.join(names)}." if names else "It takes none."
            raise Refused(f"{quoted_value(name)} is not a parameter of this call. {known}", field=name[:50])
        if len(set(values)) > 1:
            raise Refused(f"{name} is given twice, with different values.", field=name)
        if not values[-1].strip() and name not in CURSORS:
            raise Refused(f"{name} is empty. Give it a value, or leave it out.", field=name)


def given_parameters(query: QueryDict, parameters: Iterable[Parameter]) -> list[str]:
    """Return the names of those of these parameters that the query has."""
    return [parameter.name for parameter in parameters if parameter.name in query]


def refuse_without_effect(query: QueryDict, parameters: Iterable[Parameter], *, because: str) -> None:
    """Refuse parameters that would have no effect in this query; `because` says why."""
    if useless := given_parameters(query, parameters):
        raise Refused(f"{useless[0]} has no effect here: {because}", field=useless[0])
