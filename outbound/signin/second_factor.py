"""The second factor: which roles need one, and until when a teammate must set one up."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.cache import cache

from outbound import roles
from outbound.models import SecondFactorRule

CACHE_KEY = "second-factor-rules"
# Web processes without a shared cache notice a changed rule after this many seconds.
RULES_CACHED_FOR = 30
SECOND_FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


@dataclass(frozen=True, slots=True)
class Rule:
    """A role needs a second factor since a moment, and each teammate has days to set one up."""

    since: datetime
    grace: timedelta


def load_rules() -> dict[str, Rule]:
    """Return the rule of each role that needs a second factor."""
    found: dict[str, Rule] | None = cache.get(CACHE_KEY)
    if found is None:
        found = {
            row.role: Rule(since=row.required_since, grace=timedelta(days=row.grace_days))
            for row in SecondFactorRule.objects.all()
        }
        cache.set(CACHE_KEY, found, RULES_CACHED_FOR)
    return found


def forget_rules() -> None:
    """Load the rules again, after they changed."""
    cache.delete(CACHE_KEY)


def has_second_factor(user: User) -> bool:
    return Authenticator.objects.filter(user=user, type__in=SECOND_FACTORS).exists()


def deadline_of(user: User) -> datetime | None:
    """Return the moment until which a teammate must set up a second factor.

    Returns None if their role needs none, or if they have one.
    """
    rules = load_rules()
    if not rules:
        return None
    role = roles.role_of(user)
    rule = rules.get(role.value) if role else None
    if rule is None or has_second_factor(user):
        return None
    return max(rule.since, user.date_joined) + rule.grace


def remove_second_factor(user: User) -> int:
    """Remove every second factor and the recovery codes of a teammate; return the number of removed factors."""
    count = Authenticator.objects.filter(user=user, type__in=SECOND_FACTORS).count()
    Authenticator.objects.filter(user=user).delete()
    return count
