"""What the console's templates need beside Django's own."""

from typing import Any

from django import template
from django.template import Context
from django.utils import timezone

from delivery import alarms as watched

register = template.Library()

# What staff call a table, where that is not the model's own name.
CALLED: dict[str, str] = {
    "messages": "Outbound",
    "conversations": "Inbox",
    "customers": "People",
    "audiences": "Segments",
    "custom attributes": "Attributes",
    "users": "Staff",
    "groups": "Roles",
    "periodic tasks": "Schedule",
    "integrations": "Integration",
    "subscriptions": "Webhooks",
    "paces": "Pace",
}


@register.filter
def called(name: object) -> object:
    """What staff call it."""
    return CALLED.get(str(name), name)


@register.filter
def number(value: object) -> str:
    """A whole number with a comma for each thousand."""
    return f"{value:,}" if isinstance(value, int) else str(value or 0)


@register.inclusion_tag("outbound/alarms.html", takes_context=True)
def alarms(context: Context) -> dict[str, Any]:
    """What is stuck right now, for those who see messages."""
    user = getattr(context.get("request"), "user", None)
    if user is None or not user.has_perm("messaging.view_message"):
        return {"found": []}
    ringing = watched.ringing(at=timezone.now())
    return {"found": [(alarm, watched.PAGES[watched.AlarmKind(alarm.kind)]) for alarm in ringing]}
