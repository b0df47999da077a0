"""What the console's templates need beside Django's own."""

from django import template

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
