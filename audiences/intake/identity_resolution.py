"""Identity resolution: find a customer by id, then by user_id, then by email (behaviour 4.14)."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db.models import F
from django.db.models.lookups import IsNull

from audiences.intake.attributes.custom_attributes import UNKNOWN_VALUES
from audiences.intake.attributes.fields import Refused, first_given, quoted_value, read_text
from audiences.models import Company, Customer
from audiences.models.customers import CustomerQuerySet

MAX_EMAIL_LENGTH = 254
MAX_LABEL_LENGTH = 63
# The dots of an internationalised domain (RFC 3490, section 3.1).
DOTS = str.maketrans("\u3002\uff0e\uff61", "...")
SURROGATE = re.compile("[\ud800-\udfff]")
ID = re.compile(r"[1-9]\d{0,17}")


class Conflict(Refused):
    """The identifiers belong to two different rows, or another row already has one of them."""


class Unknown(Refused):
    """The row that the request refers to does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identifiers of a customer; None means not given."""

    id: str | None = None
    user_id: str | None = None
    email: str | None = None

    def __bool__(self) -> bool:
        return bool(self.id or self.user_id or self.email)


def read_user_id(value: object, field: str = "user_id") -> str | None:
    """Read an ID from the customer's system. A number becomes text; null and "" become None."""
    read = read_text(value, field) or None
    if read in UNKNOWN_VALUES and read is not None:
        raise Refused(
            f"{field} is {quoted_value(read)}, a placeholder for a missing value. Send the ID, or leave the field out.",
            field=field,
        )
    return read


def read_email(value: object, field: str = "email") -> str | None:
    """Read an email address in lower case; null and "" become None."""
    given = read_text(value, field, most=MAX_EMAIL_LENGTH)
    read = lower_case(given)
    if read:
        try:
            validate_email(read)
        except ValidationError:
            raise Refused(f"{quoted_value(read)} is not a valid email address.", field=field) from None
        # Django's pattern ignores case, and so accepts a Kelvin sign as a k.
        if read != given.lower():
            raise Refused(f"{quoted_value(read)} is not a valid email address.", field=field)
    return read or None


def lower_case(address: str) -> str:
    """Return an address in lower case, but never turn a non-ASCII letter (the Kelvin sign) into an ASCII one."""
    if address.isascii():
        return address.lower()
    return "".join(
        letter if not letter.isascii() and letter.lower().isascii() else letter.lower() for letter in address
    )


def is_same_address(one: str, other: str) -> bool:
    """Return whether two spellings name one mailbox: in any case, with a Unicode domain or its ASCII form."""
    return comparable_address(one) == comparable_address(other)


def comparable_address(address: str) -> str:
    """Return an address in lower case, with the labels of its domain in Unicode.

    The SQL function `audiences_comparable_address` does the same to stored addresses.
    """
    local, at, domain = unicodedata.normalize("NFC", lower_case(address.strip())).rpartition("@")
    labels = domain.translate(DOTS).rstrip(".").split(".")
    return f"{local}{at}{'.'.join(map(unicode_label, labels))}"


def unicode_label(label: str) -> str:
    """Return a label of a domain in Unicode (RFC 5891); unchanged if it is not encoded or malformed."""
    if not label.startswith("xn--") or len(label) > MAX_LABEL_LENGTH:
        return label
    try:
        decoded = label.removeprefix("xn--").encode("ascii").decode("punycode")
    except UnicodeError:
        return label
    return label if SURROGATE.search(decoded) else unicodedata.normalize("NFC", decoded)


def find_customer(facts: Mapping[str, Any]) -> Customer:
    """Return the customer with these identifiers: the first given of id, user_id and email decides.

    Raises Unknown if there is none. An unproved email of a lead does not identify the lead.
    """
    identity = Identity(
        id=read_text(first_given(facts, "id", "intercom_user_id"), "id") or None,
        user_id=read_text(facts.get("user_id"), "user_id") or None,
        email=lower_case(read_text(facts.get("email"), "email")) or None,
    )
    if not identity:
        raise Refused("Identify the user by id, user_id or email.", field="user_id")
    name, rows = next(iter(candidates(Customer.objects.present(), identity).items()))
    found = rows.first()
    if found is None:
        raise Unknown(f"No such {name}[{getattr(identity, name)}]", field=name)
    return found


def candidates(
    rows: CustomerQuerySet, identity: Identity, *, is_email_proved: bool = True
) -> dict[str, CustomerQuerySet]:
    """Return the queries that find an identity, in order. By email: the customer without user_id, else the last seen.

    An email that a lead only typed into the messenger never finds the lead. An unproved email never finds a customer
    who has visited, has written or got a direct message: their data must not go to a stranger who knows the address.
    """
    found: dict[str, CustomerQuerySet] = {}
    if identity.id:
        found["id"] = rows.filter(pk=int(identity.id)) if ID.fullmatch(identity.id) else rows.none()
    if identity.user_id:
        found["user_id"] = rows.filter(user_id=identity.user_id)
    if identity.email:
        by_email = rows.filter(email=identity.email).exclude(user_id=None, email_is_said=True)
        if not is_email_proved:
            by_email = by_email.filter(last_seen_at=None, last_heard_from_at=None).exclude(
                records__message__to_customer__isnull=False
            )
        # A customer with the same email and another user_id is another person.
        found["email"] = (by_email.filter(user_id=None) if identity.user_id else by_email).order_by(
            IsNull(F("archived_at"), rhs=False),
            # Customers whose address is proved come before visitors who only typed it.
            "email_is_said",
            IsNull(F("user_id"), rhs=False),
            F("last_seen_at").desc(nulls_last=True),
            "pk",
        )
    return found


def find_company(facts: Mapping[str, Any]) -> Company:
    """Return the company with this id or company_id; raises Unknown if there is none."""
    given, company_id = read_text(facts.get("id"), "id"), read_user_id(facts.get("company_id"), "company_id")
    if not given and not company_id:
        raise Refused("Identify the company by id or company_id.", field="company_id")
    if given:
        name, value = "id", given
        rows = Company.objects.filter(pk=int(given)) if ID.fullmatch(given) else Company.objects.none()
    else:
        name, value = "company_id", str(company_id)
        rows = Company.objects.filter(company_id=company_id)
    found = rows.present().first()
    if found is None:
        raise Unknown(f"No such {name}[{value}]", field=name)
    return found
