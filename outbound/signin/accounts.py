"""The accounts of teammates and their state."""

from django.contrib.auth.models import User
from django.db.models import QuerySet

from audiences.models import Integration


def state_of(user: User) -> str:
    """Return the state of a teammate. They are “Invited” until they choose a password."""
    if not user.is_active:
        return "Deactivated"
    return "Active" if user.has_usable_password() else "Invited"


def teammates() -> QuerySet[User]:
    """Return the users who can log in. The users of integrations cannot."""
    return User.objects.exclude(pk__in=Integration.objects.values("user"))
