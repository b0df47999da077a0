"""Fields of one customer in incoming data, converted to columns. Fields that were not sent are absent (wire 5.10)."""

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
    Reader,
    Refused,
    quoted_value,
    read_entries,
    read_flag,
    read_long_text,
    read_mapping,
    read_moment,
    read_number,
    read_seconds,
    read_text,
    try_read,
)
from audiences.intake.companies import CompanyFacts, read_company
from audiences.intake.identity_resolution import Identity, read_email, read_user_id
from audiences.intake.source import Source
from audiences.models.catalogue import Scope
from audiences.rules import Kind

# Each company may be written while the customer's row is locked.
MAX_COMPANIES = 1_000


def read_zone(value: object, field: str) -> str:
    name = read_text(value, field)
    if name:
        try:
            ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            raise Refused(
                f"{quoted_value(name)} is not a valid time zone. Use a name such as Europe/Dublin.", field=field
            ) from None
    return name


# Field, column, reader. If two fields fill one column, the later row counts.
COLUMNS: tuple[tuple[str, str, Reader], ...] = (
    ("email", "email", read_email),
    ("name", "name", read_text),
    ("phone", "phone", read_text),
    ("created_at", "signed_up_at", read_moment),
    ("remote_created_at", "signed_up_at", read_moment),
    ("signed_up_at", "signed_up_at", read_moment),
    ("last_request_at", "last_seen_at", read_moment),
    ("last_seen_ip", "last_seen_ip", read_text),
    ("last_seen_user_agent", "user_agent", read_long_text),
    ("language", "language", read_text),
    ("language_override", "language", read_text),
    ("country", "country", read_text),
    ("city", "city", read_text),
    ("timezone", "timezone", read_zone),
)
LOCATION_COLUMNS: tuple[tuple[str, str, Reader], ...] = (
    ("city_name", "city", read_text),
    ("country_name", "country", read_text),
    ("timezone", "timezone", read_zone),
)
READ_DETAIL: dict[Kind, Reader] = {Kind.TEXT: read_long_text, Kind.NUMBER: read_number, Kind.DATE: read_seconds}
DETAIL_FIELDS: tuple[tuple[str, str, Reader], ...] = tuple(
    (key, key, READ_DETAIL[kind]) for key, (_, kind) in DETAILS.items()
)
# Rules do not use all of these; the API returns them.
LOCATION_DETAILS: tuple[tuple[str, str, Reader], ...] = (
    ("region_name", "region", read_text),
    ("continent_code", "continent", read_text),
    ("country_code", "country_code", read_text),
    ("postal_code", "postal_code", read_text),
    ("latitude", "latitude", read_number),
    ("longitude", "longitude", read_number),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerFacts:
    """The data about one customer. `columns` and `details` have only the fields that were sent."""

    identity: Identity
    columns: dict[str, Any]
    details: dict[str, Any]
    attributes: dict[str, Any]
    companies: list[CompanyFacts]
    unsubscribed: bool | None  # None: not sent.
    new_session: bool


def read_table(
    facts: Mapping[str, Any], table: tuple[tuple[str, str, Reader], ...], *, on_bad_value: OnBadValue
) -> dict[str, Any]:
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
) -> CustomerFacts:
    """Read the data about a customer, and add its new custom attributes to the catalogue if `source` may.

    Call it before any row is locked. With `memory`, a cache of attribute kinds, a new attribute raises
    UndeclaredAttribute instead.
    """

    def read_field(read: Reader, field: str, otherwise: Any = None) -> Any:
        return try_read(read, facts.get(field), field, on_bad_value=on_bad_value, otherwise=otherwise)

    location = read_field(read_mapping, "location_data", {})
    columns = read_table(location, LOCATION_COLUMNS, on_bad_value=on_bad_value)
    columns |= read_table(facts, COLUMNS, on_bad_value=on_bad_value)
    if read_field(read_flag, "update_last_request_at"):
        columns["last_seen_at"] = at
    if "user_agent" in columns:
        columns["os"] = user_agent.parse_os(columns["user_agent"])
        columns["browser"], version = user_agent.parse_browser(columns["user_agent"])
    details = read_table(location, LOCATION_DETAILS, on_bad_value=on_bad_value)
    details |= read_table(facts, DETAIL_FIELDS, on_bad_value=on_bad_value)
    if "user_agent" in columns:
        details["browser_version"] = version
    if "avatar" in facts:
        details["avatar_url"] = read_field(read_avatar, "avatar")
    attributes = custom_attributes.check_attributes(
        read_field(read_mapping, "custom_attributes", {}), on_bad_value=on_bad_value
    )
    companies = read_companies(read_field(read_entries, "companies", []), on_bad_value=on_bad_value)
    kinds = custom_attributes.kinds_of(
        [(Scope.CUSTOMER, attributes), *((Scope.COMPANY, company.attributes) for company in companies)],
        at=at,
        source=source,
        on_bad_value=on_bad_value,
        memory=memory,
    )
    return CustomerFacts(
        identity=Identity(
            id=read_text(facts.get("id"), "id") or None,
            user_id=read_user_id(facts.get("user_id")),
            email=columns.get("email"),
        ),
        columns=columns,
        details={key: None if value == "" else value for key, value in details.items()},
        attributes=custom_attributes.coerce_values(
            attributes, scope=Scope.CUSTOMER, kinds=kinds, on_bad_value=on_bad_value
        ),
        companies=[company.with_kinds(kinds, on_bad_value=on_bad_value) for company in companies],
        unsubscribed=read_field(read_flag, "unsubscribed_from_emails"),
        new_session=bool(read_field(read_flag, "new_session")),
    )


def read_avatar(value: object, field: str) -> str:
    """Read the URL of a picture, bare or in an object as in the API's answers."""
    return read_long_text(value.get("image_url") if isinstance(value, dict) else value, field)


def read_companies(sent: list[dict[str, Any]], *, on_bad_value: OnBadValue) -> list[CompanyFacts]:
    """Read the companies of a customer. Skip a bad one if `on_bad_value` does not raise."""
    if len(sent) > MAX_COMPANIES:
        on_bad_value(
            Refused(
                f"companies contains more than {MAX_COMPANIES:,} entries. Send the rest in another request.",
                field="companies",
            )
        )
    companies = []
    for entry in sent[:MAX_COMPANIES]:
        try:
            companies.append(read_company(entry, on_bad_value=on_bad_value))
        except Refused as wrong:
            on_bad_value(wrong)
    return companies
