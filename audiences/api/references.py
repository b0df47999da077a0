"""Rows that a request names, found or answered with 404."""

from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.db.models import Model, QuerySet

from audiences.intake import Unknown
from audiences.intake.lookup import ID
from audiences.intake.values import text

Row = TypeVar("Row", bound=Model)


def one_of(rows: QuerySet[Row], named: Any, *, what: str = "id") -> Row:
    """Return the row of this id, or answer 404."""
    given = text(named, what)
    found = rows.filter(pk=int(given)).first() if ID.fullmatch(given) else None
    if found is None:
        raise Unknown(f"No such {what}[{given}]", field=what)
    return found


def admins() -> QuerySet[User]:
    """Return the teammates: staff who may log in."""
    return User.objects.filter(is_staff=True, is_active=True).order_by("pk")


def admin_of(named: Any, *, what: str = "admin_id") -> User:
    """Return the teammate of this id, or answer 404."""
    return one_of(admins(), named, what=what)
