"""Who is meant: by id, then user_id, then email (behaviour 4.14)."""

import re
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
ID = re.compile(r"[1-9]\d{0,17}")


class Conflict(Refused):
    """What was sent could mean two different rows, or is held by another one."""


class Unknown(Refused):
    """What was named is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who is meant; None where not given."""

    id: str | None = None
    user_id: str | None = None
    email: str | None = None

    def __bool__(self) -> bool:
        return bool(self.id or self.user_id or self.email)


def read_user_id(value: object, field: str = "user_id") -> str | None:
    """Read an id given by whoever sends us data; a number becomes text, null and "" are none."""
    read = read_text(value, field) or None
    if read in UNKNOWN_VALUES and read is not None:
        raise Refused(f"{field} is {quoted_value(read)}: whatever sent it had no value for it.", field=field)
    return read


def read_email(value: object, field: str = "email") -> str | None:
    """Read an email address, in lower case; null and "" are none."""
    given = read_text(value, field, most=MAX_EMAIL_LENGTH)
    read = lower_case(given)
    if read:
        try:
            validate_email(read)
        except ValidationError:
            raise Refused(f"{quoted_value(read)} is not an email address.", field=field) from None
        # Django's pattern ignores case, and so takes a Kelvin sign for a k.
        if read != given.lower():
            raise Refused(f"{quoted_value(read)} is not an email address.", field=field)
    return read or None


def lower_case(address: str) -> str:
    """Return an address in lower case; a letter beyond ASCII does not become one of ASCII, as the Kelvin sign would."""
    if address.isascii():
        return address.lower()
    return "".join(
        letter if not letter.isascii() and letter.lower().isascii() else letter.lower() for letter in address
    )


def find_customer(facts: Mapping[str, Any]) -> Customer:
    """Return the customer a reference names: the first given of id, user_id and email decides; Unknown if none is.

    A lead who only left the address is not named by it.
    """
    identity = Identity(
        id=read_text(first_given(facts, "id", "intercom_user_id"), "id") or None,
        user_id=read_text(facts.get("user_id"), "user_id") or None,
        email=lower_case(read_text(facts.get("email"), "email")) or None,
    )
    if not identity:
        raise Refused("Name a user by id, user_id or email.", field="user_id")
    name, rows = next(iter(candidates(Customer.objects.present(), identity).items()))
    found = rows.first()
    if found is None:
        raise Unknown(f"No such {name}[{getattr(identity, name)}]", field=name)
    return found


def candidates(
    rows: CustomerQuerySet, identity: Identity, *, is_email_proved: bool = True
) -> dict[str, CustomerQuerySet]:
    """Return where to look for an identity, in order; by email, the one without user_id, else the one seen last.

    Leads who only left the address in the messenger are never found by it.
    An address that is only said finds nobody who was ever here, wrote or is written to alone: what is theirs is not for
    whoever names it.
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
        # Who has another user_id and the same email is somebody else.
        found["email"] = (by_email.filter(user_id=None) if identity.user_id else by_email).order_by(
            IsNull(F("archived_at"), rhs=False),
            # Whoever typed somebody's address into a page is not them, where there is anybody who is known to be.
            "email_is_said",
            IsNull(F("user_id"), rhs=False),
            F("last_seen_at").desc(nulls_last=True),
            "pk",
        )
    return found


def find_company(facts: Mapping[str, Any]) -> Company:
    """Return the company a reference names by its id here or its company_id; Unknown if there is none."""
    given, company_id = read_text(facts.get("id"), "id"), read_user_id(facts.get("company_id"), "company_id")
    if not given and not company_id:
        raise Refused("Name a company by id or company_id.", field="company_id")
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
