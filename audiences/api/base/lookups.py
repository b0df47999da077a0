"""Lookups of rows that a request refers to; a missing row is a 404."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.db.models import Model, QuerySet

from audiences.intake import Refused, Unknown
from audiences.intake.attributes.fields import first_given, read_text
from audiences.intake.identity_resolution import ID, lower_case
from audiences.models import Customer
from audiences.models.customers import Role

Row = TypeVar("Row", bound=Model)
# Leads have no user_id. Responses show this one instead, and clients may use it in later requests.
LEAD_USER_ID = re.compile(r"lead-([1-9]\d{0,17})")


def get_row(rows: QuerySet[Row], value: Any, *, what: str = "id") -> Row:
    """Return the row with this id. Raise Unknown (404) if there is none."""
    given = read_text(value, what)
    found = rows.filter(pk=int(given)).first() if ID.fullmatch(given) else None
    if found is None:
        raise Unknown(f"No such {what}[{given}]", field=what)
    return found


def find_lead(reference: Mapping[str, Any]) -> Customer:
    """Return the lead with this id, shown user_id or email. Raise Unknown (404) if there is none.

    An email address that was only entered in the messenger does not identify a lead, because it is not verified.
    """
    leads = Customer.objects.present().filter(role=Role.LEAD)
    if (our_id := first_given(reference, "id", "intercom_user_id")) is not None:
        return get_row(leads, our_id)
    if first_given(reference, "user_id") is not None:
        given = read_text(reference["user_id"], "user_id")
        match = LEAD_USER_ID.fullmatch(given)
        found = leads.filter(pk=int(match[1])).first() if match else None
        what = "user_id"
    else:
        given, what = lower_case(read_text(reference.get("email"), "email")), "email"
        if not given:
            raise Refused("Identify the lead by id, user_id or email.", field="user_id")
        found = leads.filter(email=given, email_is_said=False).first()
    if found is None:
        raise Unknown(f"No such {what}[{given}]", field=what)
    return found


def admins() -> QuerySet[User]:
    """Return the teammates: staff users who may log in."""
    return User.objects.filter(is_staff=True, is_active=True).order_by("pk")


def find_admin(value: Any, *, what: str = "admin_id") -> User:
    """Return the teammate with this id. Raise Unknown (404) if there is none."""
    return get_row(admins(), value, what=what)
