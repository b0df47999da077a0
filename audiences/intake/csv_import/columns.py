"""What a column of a file can be, and how its cells are read."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, time
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
    read_moment,
    read_text,
)
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
# A spreadsheet takes a cell that begins so for a formula; an apostrophe before it says that it is text.
FORMULA = re.compile(r"'*[=+\-@\t\r]")


def safe_cell(value: str) -> str:
    """Write a text so that no spreadsheet runs it."""
    return f"'{value}" if FORMULA.match(value) else value


def plain_cell(value: str) -> str:
    """Read what `safe_cell` wrote; any other apostrophe stays."""
    return value[1:] if value.startswith("'") and FORMULA.match(value, 1) else value


def read_id_cell(value: str, field: str) -> int:
    """Read the number a customer goes by here."""
    if not ID.fullmatch(value.strip()):
        raise Refused(f"{quoted_value(value)} is not an ID of Outbound.", field=field)
    return int(value)


def read_moment_cell(value: str, field: str) -> datetime | None:
    """Read an ISO date or time, or unix seconds; without a zone of its own it is in the workspace's."""
    written = value.strip()
    if written.isdecimal():
        return read_moment(written, field)
    try:
        read = datetime.fromisoformat(written)
    except ValueError:
        raise Refused(f"{quoted_value(value)} is not a date. Write it like 2026-05-31.", field=field) from None
    if not 1900 <= read.year <= 2999:
        raise Refused(f"{quoted_value(value)} lies outside the years 1900 to 2999.", field=field)
    return (
        read if read.tzinfo else datetime.combine(read.date(), read.time() or time(), tzinfo=coercion.workspace_zone())
    )


def read_flag_cell(value: str, field: str) -> bool | None:
    """Read yes or no, true or false, 1 or 0."""
    word = value.strip().lower()
    try:
        return read_flag(YES_OR_NO.get(word, word), field)
    except Refused:
        raise Refused(f"{quoted_value(value)} is neither yes nor no.", field=field) from None


def read_tags_cell(value: str, field: str) -> str:
    """Read the tags of a cell, apart by commas or semicolons, as a JSON list."""
    names = dict.fromkeys(read_tag_name(part, field) for part in re.split("[,;]", value) if part.strip())
    if len(names) > MAX_TAGS:
        raise Refused(f"It has {len(names)} tags; {MAX_TAGS} at most are read from a cell.", field=field)
    return json.dumps(list(names))


def with_fast_path(read: ReadCell, plain: re.Pattern[str]) -> ReadCell:
    """Read what is plainly in order without asking further: a million cells are mostly that."""
    return lambda value, field: value if plain.fullmatch(value) else read(value, field)


# What `read_email`, `read_user_id` and `read_text` would return as it is.
PLAIN_EMAIL = re.compile(r"[a-z0-9_+-]{1,60}(?:\.[a-z0-9_+-]{1,60}){0,2}@(?:[a-z0-9]{1,60}\.){1,3}[a-z]{2,20}")
PLAIN_ID = re.compile(r"[A-Za-z0-9]{1,8}[0-9_-][A-Za-z0-9_-]{0,100}|[0-9]{1,100}")
PLAIN_TEXT = re.compile(r"[!-~](?:[ -~]{0,200}[!-~])?")


@dataclass(frozen=True, slots=True)
class Target:
    """Something a column can be: what staff call it, how a cell is read, and other names files have for it."""

    name: str
    label: str
    read: ReadCell
    also: tuple[str, ...] = ()


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("email", "Email", with_fast_path(read_email, PLAIN_EMAIL), ("emailaddress", "mail", "address")),
        Target("user_id", "User ID", with_fast_path(read_user_id, PLAIN_ID), ("userid", "customerid", "externalid")),
        Target("id", "Outbound ID", read_id_cell, ("outboundid",)),
        Target("name", "Name", with_fast_path(read_text, PLAIN_TEXT), ("fullname", "customername")),
        Target("phone", "Phone", with_fast_path(read_text, PLAIN_TEXT), ("phonenumber", "mobile", "telephone")),
        Target("signed_up_at", "Signed up", read_moment_cell, ("signedup", "createdat", "created", "signupdate")),
        Target("last_seen_at", "Last seen", read_moment_cell, ("lastseen", "lastrequestat")),
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
# What puts a customer beside others, in tables of their own.
RELATION_TARGETS = {"company_id", "company", "tags"}


def normalize_header(header: str) -> str:
    """A header without what files differ in."""
    return re.sub(r"[^a-z0-9]", "", header.lower())


def guess_targets(columns: Sequence[str]) -> list[str]:
    """What each column of a file seems to be, by its header; "" where nobody can tell. Nothing is meant twice."""
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


def reader_of_kind(kind: Kind, label: str) -> ReadCell:
    """How the cells of a custom attribute are read."""
    convert = READ_AS[kind]

    def read(value: str, field: str) -> Any:
        if len(value) > MAX_TEXT_LENGTH:
            raise Refused(f"{label} is longer than {MAX_TEXT_LENGTH} characters.", field=field)
        if UNSTORABLE.search(value):
            raise Refused(f"{label} holds a character that cannot be stored.", field=field)
        try:
            return convert(YES_OR_NO.get(value.strip().lower(), value) if kind is Kind.BOOLEAN else value)
        except ConversionError:
            raise Refused(f"{label} is {KIND_NAMES[kind]}, which {quoted_value(value)} is not.", field=field) from None

    return read


def split_new(target: str) -> tuple[Kind, str]:
    """The kind and the name of an attribute a file brings: "new.number.Seats"."""
    kind, _, name = target.removeprefix(NEW_PREFIX).partition(".")
    return Kind(kind), name


def new_attributes(targets: Sequence[str]) -> list[tuple[Kind, str]]:
    """The attributes a file brings."""
    return [split_new(target) for target in targets if target.startswith(NEW_PREFIX)]


def check_targets(targets: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse columns that do not say who is meant, or that mean the same thing twice."""
    chosen = [target for target in targets if target]
    if len(targets) != len(columns):
        raise Refused("Say for each column what it is.")
    names: set[str] = set()
    for target in chosen:
        name = target
        if target.startswith(NEW_PREFIX):
            kind, _, attribute = target.removeprefix(NEW_PREFIX).partition(".")
            if kind not in dict(KINDS) or not attribute.strip() or len(attribute) > MAX_NAME_LENGTH:
                raise Refused(f"{quoted_value(target)} is no attribute that can be made.")
            if "." in attribute or "$" in attribute or not attribute.isprintable():
                raise Refused(f"An attribute cannot be named {quoted_value(attribute)}: leave out “.” and “$”.")
            name = f"{CUSTOM}{attribute}"
        elif target not in TARGETS and not target.startswith(CUSTOM):
            raise Refused(f"There is nothing called {quoted_value(target)} to import.")
        if name in names:
            label = TARGETS[name].label if name in TARGETS else name.removeprefix(CUSTOM)
            raise Refused(f"Two columns are both “{label}”. Choose one of them.")
        names.add(name)
    if not names & set(IDENTITIES):
        raise Refused("One column must say who is meant: choose which is the email, the user ID or the Outbound ID.")


def readers(targets: Sequence[str]) -> list[tuple[int, str, bool, ReadCell]]:
    """For each column that is imported: where it is, what it fills, whether that is an attribute, how it is read."""
    declared = CustomAttribute.objects.catalogue().customer
    found: list[tuple[int, str, bool, ReadCell]] = []
    for place, target in enumerate(targets):
        if target in TARGETS:
            found.append((place, target, False, TARGETS[target].read))
        elif target:
            kind, name = (
                split_new(target) if target.startswith(NEW_PREFIX) else (Kind.TEXT, target.removeprefix(CUSTOM))
            )
            found.append((place, name, True, reader_of_kind(declared.get(name, kind), name)))
    return found


def guess_kind(values: Sequence[str]) -> Kind:
    """The kind the first values of a new attribute seem to be of."""
    given = [value for value in values if value.strip()]
    for kind in (Kind.BOOLEAN, Kind.NUMBER, Kind.DATE):
        if given and all(can_read_as(kind, value) for value in given):
            return kind
    return Kind.TEXT


def can_read_as(kind: Kind, value: str) -> bool:
    """Whether a value reads as a kind; 1 and 0 are rather numbers, and a number rather no date."""
    if kind is Kind.BOOLEAN and value.strip() in ("0", "1"):
        return False
    try:
        reader_of_kind(kind, "")(value, "")
    except Refused:
        return False
    return True
