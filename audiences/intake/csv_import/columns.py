"""Columns of a CSV file: the fields they can be mapped to, and the readers of their cells."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audiences.attributes import CUSTOM
from audiences.intake.attributes import coercion
from audiences.intake.attributes.coercion import READ_AS, ConversionError
from audiences.intake.attributes.custom_attributes import MAX_NAME_LENGTH
from audiences.intake.attributes.fields import (
    MAX_TEXT_LENGTH,
    UNSTORABLE,
    Refused,
    quoted_value,
    read_flag,
    read_text,
)
from audiences.intake.csv_import.dates import CALENDAR_FORMATS, DateFormat, NotADate, read_complete_moment, read_date
from audiences.intake.customer_fields import read_zone
from audiences.intake.identity_resolution import ID, read_email, read_user_id
from audiences.intake.tags import read_tag_name
from audiences.models import CustomAttribute
from audiences.models.catalogue import KINDS, Scope
from audiences.rules import KIND_NAMES, Kind

ReadCell = Callable[[str, str], Any]

NEW_PREFIX = "new."
MAX_TAGS = 50
YES_OR_NO = {"yes": "true", "no": "false"}
# Spreadsheets treat such a cell as a formula unless an apostrophe precedes it; also with the full-width signs.
SIGN = "[=+\\-@\uff1d\uff0b\uff0d\uff20]"
FORMULA = re.compile(rf"'*(?:[\t\r\n]|\s*{SIGN})")
# Where another character than the comma separates cells, a cell may begin in the middle of the text, also in quotes.
BEGIN = r"[;\t\r\n](?:\"|[^\S\t\r\n])*"
INNER_FORMULA = re.compile(rf"({BEGIN})('*{SIGN})")
SAFE_INNER_FORMULA = re.compile(rf"({BEGIN})'('*{SIGN})")


def safe_cell(value: str) -> str:
    """Return the text, with an apostrophe before each part that a spreadsheet would run as a formula.

    Every export writes its texts with this function.
    """
    value = INNER_FORMULA.sub(r"\1'\2", value)
    return f"'{value}" if FORMULA.match(value) else value


def plain_cell(value: str) -> str:
    """Undo `safe_cell`; any other apostrophe stays."""
    value = value[1:] if value.startswith("'") and FORMULA.match(value, 1) else value
    return SAFE_INNER_FORMULA.sub(r"\1\2", value)


def read_id_cell(value: str, field: str) -> int:
    if not ID.fullmatch(value.strip()):
        raise Refused(f"{quoted_value(value)} is not a valid Outbound ID.", field=field)
    return int(value)


def moment_reader(date_format: DateFormat) -> ReadCell:
    """Return the reader of dates in this format. The workspace's zone applies if a date has none."""

    is_calendar = date_format in CALENDAR_FORMATS

    def read_cell(value: str, field: str) -> datetime:
        if is_calendar and (read := read_complete_moment(value)) is not None:
            return read
        try:
            return read_date(value, date_format, zone=coercion.workspace_zone())
        except NotADate:
            label = date_format.label[:1].lower() + date_format.label[1:]
            reason = f"{quoted_value(value)} is not a valid date. The format of this column is {label}."
            raise Refused(reason, field=field) from None

    return read_cell


def seconds_reader(date_format: DateFormat) -> ReadCell:
    """Return the reader of a custom attribute's dates, which are stored as unix seconds."""
    read = moment_reader(date_format)
    return lambda value, field: int(read(value, field).timestamp())


def read_flag_cell(value: str, field: str) -> bool | None:
    """Read yes or no, true or false, 1 or 0."""
    word = value.strip().lower()
    try:
        return read_flag(YES_OR_NO.get(word, word), field)
    except Refused:
        raise Refused(f"{quoted_value(value)} is not a valid value. Use yes or no.", field=field) from None


def read_tags_cell(value: str, field: str) -> str:
    """Read tags separated by commas or semicolons, and return them as a JSON list."""
    names = dict.fromkeys(read_tag_name(part, field) for part in re.split("[,;]", value) if part.strip())
    if len(names) > MAX_TAGS:
        raise Refused(f"This cell has {len(names)} tags. The maximum is {MAX_TAGS}.", field=field)
    return json.dumps(list(names))


def with_fast_path(read: ReadCell, plain: re.Pattern[str]) -> ReadCell:
    """Wrap a reader so that cells which match `plain` are returned without a call, for speed."""
    return lambda value, field: value if plain.fullmatch(value) else read(value, field)


# Values that `read_email`, `read_user_id` and `read_text` return unchanged.
PLAIN_EMAIL = re.compile(r"[a-z0-9_+-]{1,60}(?:\.[a-z0-9_+-]{1,60}){0,2}@(?:[a-z0-9]{1,60}\.){1,3}[a-z]{2,20}")
PLAIN_ID = re.compile(r"[A-Za-z0-9]{1,8}[0-9_-][A-Za-z0-9_-]{0,100}|[0-9]{1,100}")
PLAIN_TEXT = re.compile(r"[!-~](?:[ -~]{0,200}[!-~])?")


@dataclass(frozen=True, slots=True)
class Target:
    """A field that a column can be mapped to: its label for staff, the reader of its cells, other usual headers.

    The reader of a date is for year-first dates; `readers` takes the one for the format of the column.
    """

    name: str
    label: str
    read: ReadCell
    also: tuple[str, ...] = ()
    is_date: bool = False


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("email", "Email", with_fast_path(read_email, PLAIN_EMAIL), ("emailaddress", "mail", "address")),
        Target("user_id", "User ID", with_fast_path(read_user_id, PLAIN_ID), ("userid", "customerid", "externalid")),
        Target("id", "Outbound ID", read_id_cell, ("outboundid",)),
        Target("name", "Name", with_fast_path(read_text, PLAIN_TEXT), ("fullname", "customername")),
        Target("first_name", "First name", with_fast_path(read_text, PLAIN_TEXT), ("givenname", "forename")),
        Target("last_name", "Last name", with_fast_path(read_text, PLAIN_TEXT), ("familyname", "surname")),
        Target("phone", "Phone", with_fast_path(read_text, PLAIN_TEXT), ("phonenumber", "mobile", "telephone")),
        Target(
            "signed_up_at",
            "Signed up",
            moment_reader(DateFormat.ISO),
            ("signedup", "createdat", "created", "signupdate"),
            is_date=True,
        ),
        Target("last_seen_at", "Last seen", moment_reader(DateFormat.ISO), ("lastseen", "lastrequestat"), is_date=True),
        Target("country", "Country", with_fast_path(read_text, PLAIN_TEXT)),
        Target("city", "City", with_fast_path(read_text, PLAIN_TEXT)),
        Target("timezone", "Time zone", read_zone, ("timezone", "tz")),
        Target("language", "Language", with_fast_path(read_text, PLAIN_TEXT), ("locale",)),
        Target(
            "unsubscribed_from_emails",
            "Unsubscribed from emails",
            read_flag_cell,
            ("unsubscribed", "optedout", "optout"),
        ),
        Target("company_id", "Company ID", with_fast_path(read_user_id, PLAIN_ID), ("accountid", "organisationid")),
        Target(
            "company",
            "Company name",
            with_fast_path(read_text, PLAIN_TEXT),
            ("account", "organisation", "organization"),
        ),
        Target("tags", "Tags", read_tags_cell, ("tag", "labels")),
    )
}
IDENTITIES = ("id", "user_id", "email")
# Parts of the name, which is stored as one text.
NAME_PARTS = {"first_name", "last_name"}
# Targets that are stored in other tables than the customer's.
RELATION_TARGETS = {"company_id", "company", "tags"}


def field_label(name: str) -> str:
    """Return the label of a field or a custom attribute."""
    return TARGETS[name].label if name in TARGETS else name.removeprefix(CUSTOM)


def normalize_header(header: str) -> str:
    """Return a header in lower case, with only letters and digits."""
    return re.sub(r"[^a-z0-9]", "", header.lower())


def guess_targets(columns: Sequence[str]) -> list[str]:
    """Guess the target of each column by its header, "" if unknown. Each target is used once."""
    known = {
        normalize_header(name): target.name
        for target in TARGETS.values()
        for name in (target.name, target.label, *target.also)
    }
    for key in CustomAttribute.objects.offered().filter(scope=Scope.CUSTOMER).values_list("name", flat=True):
        known.setdefault(normalize_header(key), f"{CUSTOM}{key}")
        known[normalize_header(f"{CUSTOM}{key}")] = f"{CUSTOM}{key}"
    found: list[str] = []
    for header in columns:
        meant = known.get(normalize_header(header), "")
        found.append("" if meant in found else meant)
    return found


def reader_of_kind(kind: Kind, label: str, date_format: DateFormat) -> ReadCell:
    """Return the reader for the cells of a custom attribute."""
    if kind is Kind.DATE:
        return seconds_reader(date_format)
    convert = READ_AS[kind]

    def read_cell(value: str, field: str) -> Any:
        if len(value) > MAX_TEXT_LENGTH:
            raise Refused(f"{label} is longer than {MAX_TEXT_LENGTH} characters.", field=field)
        if UNSTORABLE.search(value):
            raise Refused(f"{label} contains a character that cannot be stored.", field=field)
        try:
            return convert(YES_OR_NO.get(value.strip().lower(), value) if kind is Kind.BOOLEAN else value)
        except ConversionError:
            reason = f"{label} is {KIND_NAMES[kind]}; {quoted_value(value)} is not a valid value for it."
            raise Refused(reason, field=field) from None

    return read_cell


def split_new(target: str) -> tuple[Kind, str]:
    """Return the kind and the name in the target of a new attribute, such as "new.number.Seats"."""
    kind, _, name = target.removeprefix(NEW_PREFIX).partition(".")
    return Kind(kind), name


def new_attributes(targets: Sequence[str]) -> list[tuple[Kind, str]]:
    return [split_new(target) for target in targets if target.startswith(NEW_PREFIX)]


def check_targets(targets: Sequence[str], columns: Sequence[str]) -> None:
    """Raise Refused if no column identifies the customer, or two columns have the same target."""
    chosen = [target for target in targets if target]
    if len(targets) != len(columns):
        raise Refused("Choose a field for each column.")
    names: set[str] = set()
    for target in chosen:
        name = target
        if target.startswith(NEW_PREFIX):
            kind, _, attribute = target.removeprefix(NEW_PREFIX).partition(".")
            if kind not in dict(KINDS) or not attribute.strip() or len(attribute) > MAX_NAME_LENGTH:
                raise Refused(f"{quoted_value(target)} is not a valid new attribute.")
            if "." in attribute or "$" in attribute or not attribute.isprintable():
                raise Refused(f"{quoted_value(attribute)} is not a valid attribute name. Leave out “.” and “$”.")
            name = f"{CUSTOM}{attribute}"
        elif target not in TARGETS and not target.startswith(CUSTOM):
            raise Refused(f"{quoted_value(target)} is not a field that can be imported.")
        if name in names:
            raise Refused(f"Two columns are mapped to “{field_label(name)}”. Choose one of them.")
        names.add(name)
    if "name" in names and names & NAME_PARTS:
        raise Refused("Choose either a column for the name, or columns for the first name and the last name.")
    if not names & set(IDENTITIES):
        raise Refused(
            "One column must identify the customer. Choose the column of the email, the user ID or the Outbound ID."
        )


def kind_of_target(target: str, declared: Mapping[str, Kind]) -> Kind | None:
    """Return the kind of the attribute that is a target; None for other fields. `declared` is the catalogue."""
    if target in TARGETS or not target:
        return None
    kind, name = split_new(target) if target.startswith(NEW_PREFIX) else (Kind.TEXT, target.removeprefix(CUSTOM))
    return declared.get(name, kind)


def is_date_target(target: str, declared: Mapping[str, Kind]) -> bool:
    return TARGETS[target].is_date if target in TARGETS else kind_of_target(target, declared) is Kind.DATE


def readers(targets: Sequence[str], date_formats: Sequence[str] = ()) -> list[tuple[int, str, bool, ReadCell]]:
    """Return for each imported column: its index, the name it fills, whether that is an attribute, and its reader.

    `date_formats` has the format of each column; year first if it is shorter.
    """
    declared = CustomAttribute.objects.catalogue().customer
    found: list[tuple[int, str, bool, ReadCell]] = []
    for place, target in enumerate(targets):
        date_format = DateFormat(date_formats[place]) if place < len(date_formats) else DateFormat.ISO
        if target in TARGETS:
            known = TARGETS[target]
            found.append((place, target, False, moment_reader(date_format) if known.is_date else known.read))
        elif kind := kind_of_target(target, declared):
            name = split_new(target)[1] if target.startswith(NEW_PREFIX) else target.removeprefix(CUSTOM)
            found.append((place, name, True, reader_of_kind(kind, name, date_format)))
    return found
