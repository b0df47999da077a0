"""Values that rules name: what each rule saw of a customer, kept with the record of a match and shown by “Why?”."""

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from audiences.attributes import About, Attribute, Catalogue
from audiences.compiler import COMPILE, CURRENT_VIEW, Compiler, Leaf, View
from audiences.rules import NEGATIVE_OPERATORS, Kind, Operator

# Rules about rows of other tables: the value is whether there is one.
BY_EXISTENCE = (Kind.TAG, Kind.SEGMENT, Kind.MESSAGE)
OF_SUMMARY = "(SELECT {value} FROM audiences_eventsummary d WHERE d.customer_id = c.id AND d.name = {name})"
# A long text is cut.
TEXT_LENGTH = 200


def value_name(attribute: str, kind: Kind | None, value: Any) -> str:
    """Return the name under which the value that a rule sees is kept; several rules may ask for different rows."""
    return f"{attribute}={value}" if kind in BY_EXISTENCE else attribute


def value_sql(compiler: Compiler, attribute: Attribute, value: Any) -> str:
    """Return SQL for the value that a rule sees, NULL if unknown."""
    if attribute.kind in BY_EXISTENCE:
        return f"({COMPILE[attribute.kind, Operator.IS](compiler, attribute, value)}) IS TRUE"
    if attribute.kind is Kind.EVENT:
        return f"coalesce({OF_SUMMARY.format(value='d.count', name=compiler.add_param(attribute.key, 'text'))}, 0)"
    if attribute.about is About.EVENT:
        name = compiler.add_param(attribute.key, "text")
        return OF_SUMMARY.format(value=attribute.sql.format(summary="d"), name=name)
    return compiler.column_sql(attribute)


def kept_value_sql(compiler: Compiler, leaf: Leaf) -> str:
    """Return SQL for the value that a rule sees of a matching pair."""
    if leaf.is_certain and leaf.attribute.kind in BY_EXISTENCE:
        return "FALSE" if leaf.operator in NEGATIVE_OPERATORS else "TRUE"
    found = value_sql(compiler, leaf.attribute, leaf.value)
    return f"left({found}, {TEXT_LENGTH})" if leaf.attribute.kind is Kind.TEXT else found


def named_values_sql(
    leaves: Iterable[Leaf], *, per_company: bool, prefix: str, view: View = CURRENT_VIEW
) -> tuple[str, dict[str, Any]]:
    """Return SQL for a JSON object with the values, as text, that rules see of a matching pair; and its parameters.

    Values of the company are included if each company gets a copy: for another copy, any company may have matched.
    """
    compiler = Compiler(catalogue=Catalogue(customer={}, company={}), zone=ZoneInfo("UTC"), view=view, prefix=prefix)
    named: dict[str, str] = {}
    for leaf in leaves:
        is_known = per_company or leaf.attribute.about is not About.COMPANY
        # The rules of a segment are leaves themselves.
        if is_known and leaf.attribute.kind is not Kind.SEGMENT:
            name = value_name(leaf.name, leaf.attribute.kind, leaf.value)
            if name not in named:
                named[name] = kept_value_sql(compiler, leaf)
    if not named:
        return "'{}'::jsonb", {}
    names = ", ".join(compiler.add_param(name, "text") for name in named)
    # All as text: jsonb_build_object looks up the type of each value for each row, which makes a launch 10 % slower.
    values = ", ".join(f"({value})::text" for value in named.values())
    return f"jsonb_object(ARRAY[{names}], ARRAY[{values}])", compiler.params


READ_VALUE: dict[Kind, Callable[[str], Any]] = {
    Kind.DATE: datetime.fromisoformat,
    Kind.NUMBER: Decimal,
    Kind.EVENT: int,
    Kind.TEAMMATE: int,
    **dict.fromkeys((Kind.BOOLEAN, *BY_EXISTENCE), "true".__eq__),
}


def read_value(text: str | None, *, kind: Kind | None) -> Any:
    """Return a kept value with the type that its rule saw; None if it was unknown.

    The attribute may have changed its kind since. Then a value that is none of the new kind is returned as text.
    """
    if text is None or kind not in READ_VALUE:
        return text
    try:
        return READ_VALUE[kind](text)
    except (ValueError, ArithmeticError):
        return text
