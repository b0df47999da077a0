"""Attributes for rules: name, label, kind and SQL of each.

behaviour 6.3 lists them. In SQL `c` is the customer, `k` the company of the evaluated pair, and `{key}` the placeholder
for the name of a custom attribute or event. A new attribute is one row in the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from audiences.rule_values import is_storable
from audiences.rules import Kind


class About(StrEnum):
    """The owner of an attribute. A rule about a company is evaluated for each pair (customer, company)."""

    CUSTOMER = "customer"
    COMPANY = "company"
    EVENT = "event"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One row of the table. `sql` is NULL, or '' for a text, if the value is unknown."""

    name: str
    label: str
    kind: Kind
    about: About
    sql: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The custom attributes by name, with their kinds (behaviour 3)."""

    customer: Mapping[str, Kind]
    company: Mapping[str, Kind]
    # The display names that staff gave, by the name in rules.
    labels: Mapping[str, str] = field(default_factory=dict)

    def label_of(self, name: str) -> str:
        """Return the display name of a custom attribute, or its key if it has none."""
        company = f"Company {name.removeprefix(COMPANY_CUSTOM)}"
        return self.labels.get(name) or (company if name.startswith(COMPANY_CUSTOM) else name.removeprefix(CUSTOM))


EMPTY_CATALOGUE = Catalogue(customer={}, company={})

FIRST_NAME = "split_part(c.name, ' ', 1)"
LAST_NAME = "ltrim(substr(c.name, length(split_part(c.name, ' ', 1)) + 1))"
USER_COUNT = (
    "(SELECT count(*) FROM audiences_membership mm JOIN audiences_customer cc ON cc.id = mm.customer_id "
    "WHERE mm.company_id = k.id AND cc.archived_at IS NULL HAVING k.id IS NOT NULL)"
)

# Received means sent (behaviour 4.4).
RECEIVED = "d.status = 'sent'"


def date_from_json(json: str) -> str:
    """Return SQL for the time of a JSON number of unix seconds, NULL outside the years 1 to 9999."""
    # Checked first, because one number out of range would fail the statement for all customers.
    value = number_from_json(json)
    return f"(CASE WHEN {value} BETWEEN -62135596800 AND 253402300799 THEN to_timestamp({value}::float8) END)"


def number_from_json(json: str) -> str:
    """Return SQL for the number in a JSON value, NULL if it is not a number."""
    return f"(CASE WHEN jsonb_typeof({json}) = 'number' THEN ({json})::numeric END)"


def boolean_from_json(json: str) -> str:
    """Return SQL for the boolean in a JSON value, NULL if it is not a boolean."""
    return f"(CASE WHEN jsonb_typeof({json}) = 'boolean' THEN ({json})::boolean END)"


def text_from_json(json: str) -> str:
    """Return SQL for the text of a JSON value."""
    return f"({json} #>> '{{{{}}}}')"


FROM_JSON = {
    Kind.TEXT: text_from_json,
    Kind.NUMBER: number_from_json,
    Kind.BOOLEAN: boolean_from_json,
    Kind.DATE: date_from_json,
}

# Rarely used standard attributes are stored in one JSON column, under these keys.
DETAILS: dict[str, tuple[str, Kind]] = {
    "region": ("Region", Kind.TEXT),
    "continent": ("Continent", Kind.TEXT),
    "browser_version": ("Browser version", Kind.TEXT),
    "browser_language": ("Browser language", Kind.TEXT),
    "referrer": ("Referral URL", Kind.TEXT),
    "utm_campaign": ("UTM campaign", Kind.TEXT),
    "utm_content": ("UTM content", Kind.TEXT),
    "utm_medium": ("UTM medium", Kind.TEXT),
    "utm_source": ("UTM source", Kind.TEXT),
    "utm_term": ("UTM term", Kind.TEXT),
    "twitter_followers": ("Twitter followers", Kind.NUMBER),
    "ios_last_seen_at": ("iOS last seen", Kind.DATE),
    "ios_sessions": ("iOS sessions", Kind.NUMBER),
    "ios_device": ("iOS device", Kind.TEXT),
    "ios_app_version": ("iOS app version", Kind.TEXT),
    "android_last_seen_at": ("Android last seen", Kind.DATE),
    "android_sessions": ("Android sessions", Kind.NUMBER),
    "android_device": ("Android device", Kind.TEXT),
    "android_app_version": ("Android app version", Kind.TEXT),
}


def customer_attribute(name: str, label: str, kind: Kind, sql: str = "") -> Attribute:
    """Return an attribute of the customer, by default in the column of the same name."""
    return Attribute(name, label, kind, About.CUSTOMER, sql or f"c.{name}")


def company_attribute(name: str, label: str, kind: Kind, sql: str = "") -> Attribute:
    """Return an attribute of the company, by default in the column of the same name."""
    return Attribute(f"company.{name}", label, kind, About.COMPANY, sql or f"k.{name}")


STANDARD: tuple[Attribute, ...] = (
    customer_attribute("role", "Role", Kind.ROLE),
    customer_attribute("name", "Name", Kind.TEXT),
    customer_attribute("first_name", "First name", Kind.TEXT, FIRST_NAME),
    customer_attribute("last_name", "Last name", Kind.TEXT, LAST_NAME),
    customer_attribute("email", "Email", Kind.TEXT),
    customer_attribute("phone", "Phone", Kind.TEXT),
    customer_attribute("user_id", "User ID", Kind.TEXT),
    customer_attribute("first_seen_at", "First seen", Kind.DATE),
    customer_attribute("signed_up_at", "Signed up", Kind.DATE),
    customer_attribute("last_seen_at", "Last seen", Kind.DATE, "{last_seen}"),
    customer_attribute("last_contacted_at", "Last contacted", Kind.DATE),
    customer_attribute("last_heard_from_at", "Last heard from", Kind.DATE),
    customer_attribute("last_opened_email_at", "Last opened email", Kind.DATE),
    customer_attribute("last_clicked_email_at", "Last clicked link in email", Kind.DATE),
    customer_attribute("session_count", "Web sessions", Kind.NUMBER),
    customer_attribute("unsubscribed_from_emails", "Unsubscribed from emails", Kind.BOOLEAN),
    customer_attribute("marked_email_as_spam", "Marked email as spam", Kind.BOOLEAN),
    customer_attribute("has_hard_bounced", "Has hard bounced", Kind.BOOLEAN),
    customer_attribute("country", "Country", Kind.TEXT),
    customer_attribute("city", "City", Kind.TEXT),
    customer_attribute("timezone", "Time zone", Kind.TEXT),
    customer_attribute("browser", "Browser", Kind.TEXT),
    customer_attribute("os", "OS", Kind.TEXT),
    customer_attribute("language", "Language", Kind.TEXT),
    customer_attribute("owner", "Owner", Kind.TEAMMATE, "c.owner_id"),
    customer_attribute("tag", "Tag", Kind.TAG),
    customer_attribute("segment", "Segment", Kind.SEGMENT),
    *(
        customer_attribute(key, label, kind, FROM_JSON[kind](f"(c.details->'{key}')"))
        for key, (label, kind) in DETAILS.items()
    ),
    company_attribute("name", "Company name", Kind.TEXT),
    company_attribute("company_id", "Company ID", Kind.TEXT),
    company_attribute("size", "Company size", Kind.NUMBER),
    company_attribute("industry", "Company industry", Kind.TEXT),
    company_attribute("website", "Company website", Kind.TEXT),
    company_attribute("plan", "Company plan", Kind.TEXT),
    company_attribute("monthly_spend", "Company monthly spend", Kind.NUMBER),
    company_attribute("created_at", "Company created", Kind.DATE, "k.remote_created_at"),
    company_attribute("last_seen_at", "Company last seen", Kind.DATE, "{company_last_seen}"),
    company_attribute("session_count", "Company web sessions", Kind.NUMBER),
    company_attribute("user_count", "Company users", Kind.NUMBER, USER_COUNT),
    company_attribute("tag", "Company tag", Kind.TAG),
    company_attribute("segment", "Company segment", Kind.SEGMENT),
    *(
        Attribute(name, label, Kind.MESSAGE, About.MESSAGE, fact)
        for name, label, fact in (
            ("received_message", "Received message", RECEIVED),
            ("opened_message", "Opened message", f"{RECEIVED} AND d.opened_at IS NOT NULL"),
            ("clicked_message", "Clicked message", f"{RECEIVED} AND d.clicked_at IS NOT NULL"),
            ("replied_to_message", "Replied to message", f"{RECEIVED} AND d.replied_at IS NOT NULL"),
            # Includes waiting and uncertain records: the copy of a sampled message skips them (behaviour 4.10).
            (
                "got_message",
                "Received or will receive message",
                "d.status IN ('waiting', 'sending', 'uncertain', 'sent')",
            ),
        )
    ),
)
BY_NAME: dict[str, Attribute] = {attribute.name: attribute for attribute in STANDARD}

CUSTOM = "custom_attributes."
COMPANY_CUSTOM = "company.custom_attributes."
EVENT_ATTRIBUTES: dict[str, tuple[str, Kind, str]] = {
    "event.": ("Event “{}”", Kind.EVENT, ""),
    "event_count.": ("Times “{}” happened", Kind.NUMBER, "{summary}.count"),
    "event_first.": ("First “{}”", Kind.DATE, "{summary}.first_at"),
    "event_last.": ("Last “{}”", Kind.DATE, "{summary}.last_at"),
}


def find_attribute(name: str, *, catalogue: Catalogue) -> Attribute:
    """Return the attribute with this name; raises LookupError if there is none."""
    if name in BY_NAME:
        return BY_NAME[name]
    if name.startswith(COMPANY_CUSTOM):
        key = name.removeprefix(COMPANY_CUSTOM)
        kind = catalogue.company[key]
        return Attribute(
            name, catalogue.label_of(name), kind, About.COMPANY, FROM_JSON[kind]("(k.attributes->{key})"), key
        )
    if name.startswith(CUSTOM):
        key = name.removeprefix(CUSTOM)
        kind = catalogue.customer[key]
        return Attribute(
            name, catalogue.label_of(name), kind, About.CUSTOMER, FROM_JSON[kind]("(c.attributes->{key})"), key
        )
    for prefix, (label, kind, sql) in EVENT_ATTRIBUTES.items():
        event = name.removeprefix(prefix)
        if event != name and event and is_storable(event):
            stored = event.lower().replace(".", "-").replace("$", "-")  # As intake stores it.
            return Attribute(name, label.format(event), kind, About.EVENT, sql, stored)
    raise LookupError(name)
