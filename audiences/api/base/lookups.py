"""Rows that a request names, found or answered with 404."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.db.models import Model, QuerySet

from audiences.intake import Refused, Unknown
from audiences.intake.attributes.fields import first_given, text
from audiences.intake.identity_resolution import ID, lower_case
from audiences.models import Customer
from audiences.models.customers import Role

Row = TypeVar("Row", bound=Model)
# The user_id leads are shown with, so that clients which name them by it can: they have none of their own.
LEAD_USER_ID = re.compile(r"lead-([1-9]\d{0,17})")


def get_row(rows: QuerySet[Row], named: Any, *, what: str = "id") -> Row:
    """Return the row of this id, or answer 404."""
    given = text(named, what)
    found = rows.filter(pk=int(given)).first() if ID.fullmatch(given) else None
    if found is None:
        raise Unknown(f"No such {what}[{given}]", field=what)
    return found


def find_lead(reference: Mapping[str, Any]) -> Customer:
    """Return the lead a reference names by id, by the user_id we show it with, or by email; or answer 404.

    A lead who only left the address in the messenger is not named by it: anybody can leave anybody's.
    """
    leads = Customer.objects.present().filter(role=Role.LEAD)
    if (our_id := first_given(reference, "id", "intercom_user_id")) is not None:
        return get_row(leads, our_id)
    if first_given(reference, "user_id") is not None:
        named = text(reference["user_id"], "user_id")
        is_ours = LEAD_USER_ID.fullmatch(named)
        found = leads.filter(pk=int(is_ours[1])).first() if is_ours else None
        what = "user_id"
    else:
        named, what = lower_case(text(reference.get("email"), "email")), "email"
        if not named:
            raise Refused("Name the lead by id, user_id or email.", field="user_id")
        found = leads.filter(email=named, email_is_said=False).first()
    if found is None:
        raise Unknown(f"No such {what}[{named}]", field=what)
    return found


def admins() -> QuerySet[User]:
    """Return the teammates: staff who may log in."""
    return User.objects.filter(is_staff=True, is_active=True).order_by("pk")


def find_admin(named: Any, *, what: str = "admin_id") -> User:
    """Return the teammate of this id, or answer 404."""
    return get_row(admins(), named, what=what)
