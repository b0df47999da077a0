"""The accounts of teammates and their state."""

from django.contrib.auth.models import User
from django.db.models import QuerySet

from audiences.models import Integration


def state_of(user: User) -> str:
    """Return the state of a teammate. They are “Invited” until they choose a password or link an identity."""
    if not user.is_active:
        return "Deactivated"
    # A list of teammates has read the links already.
    is_known = user.has_usable_password() or list(user.socialaccount_set.all())  # type: ignore[attr-defined]
    return "Active" if is_known else "Invited"


def teammates() -> QuerySet[User]:
    """Return the users who can log in. The users of integrations cannot."""
    return User.objects.exclude(pk__in=Integration.objects.values("user"))
