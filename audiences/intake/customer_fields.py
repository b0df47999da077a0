"""What was sent about one customer, read into the columns it fills; what was not sent is not there (wire 5.10)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from audiences.attributes import DETAILS
from audiences.intake import user_agent
from audiences.intake.attributes import custom_attributes
from audiences.intake.attributes.fields import (
    OnBadValue,
    Read,
    Refused,
    attempt,
    entries,
    flag,
    long_text,
    mapping,
    moment,
    number,
    quoted_value,
    seconds,
    text,
)
from audiences.intake.companies import CompanyFacts, read_company
from audiences.intake.identity_resolution import Identity, read_email, read_user_id
from audiences.intake.source import Source
from audiences.models.catalogue import Scope
from audiences.rules import Kind

# Each may be written, while the customer's row is locked.
MOST_COMPANIES = 1_000


def zone(value: object, field: str) -> str:
    """Read the name of a time zone."""
    name = text(value, field)
    if name:
        try:
            ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            raise Refused(
                f"There is no time zone {quoted_value(name)}. Write it like Europe/Dublin.", field=field
            ) from None
    return name


# Field, column, how it is read. Of two fields for one column the later row counts.
COLUMNS: tuple[tuple[str, str, Read], ...] = (
    ("email", "email", read_email),
    ("name", "name", text),
    ("phone", "phone", text),
    ("created_at", "signed_up_at", moment),
    ("remote_created_at", "signed_up_at", moment),
    ("signed_up_at", "signed_up_at", moment),
    ("last_request_at", "last_seen_at", moment),
    ("last_seen_ip", "last_seen_ip", text),
    ("last_seen_user_agent", "user_agent", long_text),
    ("language", "language", text),
    ("language_override", "language", text),
    ("country", "country", text),
    ("city", "city", text),
    ("timezone", "timezone", zone),
)
LOCATION_COLUMNS: tuple[tuple[str, str, Read], ...] = (
    ("city_name", "city", text),
    ("country_name", "country", text),
    ("timezone", "timezone", zone),
)
READ_DETAIL: dict[Kind, Read] = {Kind.TEXT: long_text, Kind.NUMBER: number, Kind.DATE: seconds}
DETAIL_FIELDS: tuple[tuple[str, str, Read], ...] = tuple(
    (key, key, READ_DETAIL[kind]) for key, (_, kind) in DETAILS.items()
)
# Beside those that rules ask about, what the answer shows again.
LOCATION_DETAILS: tuple[tuple[str, str, Read], ...] = (
    ("region_name", "region", text),
    ("continent_code", "continent", text),
    ("country_code", "country_code", text),
    ("postal_code", "postal_code", text),
    ("latitude", "latitude", number),
    ("longitude", "longitude", number),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was sent about one customer; columns and details hold only what was given."""

    identity: Identity
    columns: dict[str, Any]
    details: dict[str, Any]
    attributes: dict[str, Any]
    companies: list[CompanyFacts]
    unsubscribed: bool | None  # None: says nothing about it.
    new_session: bool


def read_table(
    facts: Mapping[str, Any], table: tuple[tuple[str, str, Read], ...], *, on_bad_value: OnBadValue
) -> dict[str, Any]:
    """Read the fields of a table that were given."""
    values: dict[str, Any] = {}
    for field, column, read in table:
        if field in facts:
            try:
                values[column] = read(facts[field], field)
            except Refused as wrong:
                on_bad_value(wrong)
    return values


def read_facts(
    facts: Mapping[str, Any],
    *,
    at: datetime,
    source: Source,
    on_bad_value: OnBadValue,
    memory: dict[tuple[Scope, str], Kind] | None = None,
) -> Facts:
    """Read all that was sent, and learn the custom attributes in it that `source` may add; nothing is locked yet.

    `memory` holds kinds of attributes that need not be asked for; with one, Unlearnt where there is one to learn.
    """

    def tried(read: Read, field: str, otherwise: Any = None) -> Any:
        return attempt(read, facts.get(field), field, on_bad_value=on_bad_value, otherwise=otherwise)

    location = tried(mapping, "location_data", {})
    columns = read_table(location, LOCATION_COLUMNS, on_bad_value=on_bad_value)
    columns |= read_table(facts, COLUMNS, on_bad_value=on_bad_value)
    if tried(flag, "update_last_request_at"):
        columns["last_seen_at"] = at
    if "user_agent" in columns:
        columns["os"] = user_agent.system(columns["user_agent"])
        columns["browser"], version = user_agent.browser(columns["user_agent"])
    details = read_table(location, LOCATION_DETAILS, on_bad_value=on_bad_value)
    details |= read_table(facts, DETAIL_FIELDS, on_bad_value=on_bad_value)
    if "user_agent" in columns:
        details["browser_version"] = version
    if "avatar" in facts:
        details["avatar_url"] = tried(avatar, "avatar")
    attributes = custom_attributes.check(tried(mapping, "custom_attributes", {}), on_bad_value=on_bad_value)
    companies = read_companies(tried(entries, "companies", []), on_bad_value=on_bad_value)
    kinds = custom_attributes.kinds_of(
        [(Scope.CUSTOMER, attributes), *((Scope.COMPANY, company.attributes) for company in companies)],
        at=at,
        source=source,
        on_bad_value=on_bad_value,
        memory=memory,
    )
    return Facts(
        identity=Identity(
            id=text(facts.get("id"), "id") or None,
            user_id=read_user_id(facts.get("user_id")),
            email=columns.get("email"),
        ),
        columns=columns,
        details={key: None if value == "" else value for key, value in details.items()},
        attributes=custom_attributes.coerce_values(
            attributes, scope=Scope.CUSTOMER, kinds=kinds, on_bad_value=on_bad_value
        ),
        companies=[company.with_kinds(kinds, on_bad_value=on_bad_value) for company in companies],
        unsubscribed=tried(flag, "unsubscribed_from_emails"),
        new_session=bool(tried(flag, "new_session")),
    )


def avatar(value: object, field: str) -> str:
    """Read a picture's address: as it is, or in an object as the answer has it."""
    return long_text(value.get("image_url") if isinstance(value, dict) else value, field)


def read_companies(sent: list[dict[str, Any]], *, on_bad_value: OnBadValue) -> list[CompanyFacts]:
    """Read the companies somebody is said to be in; one that cannot be named is left out where the rest goes on."""
    if len(sent) > MOST_COMPANIES:
        on_bad_value(
            Refused(f"companies holds more than {MOST_COMPANIES:,}: send the rest by itself.", field="companies")
        )
    companies = []
    for entry in sent[:MOST_COMPANIES]:
        try:
            companies.append(read_company(entry, on_bad_value=on_bad_value))
        except Refused as wrong:
            on_bad_value(wrong)
    return companies
