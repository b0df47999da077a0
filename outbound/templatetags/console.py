"""Template tags and filters of the console."""

import re
from typing import Any

from django import template
from django.template import Context
from django.utils import timezone
from django.utils.html import conditional_escape
from django.utils.safestring import mark_safe

from delivery.models import AlarmKind
from delivery.monitoring import alarms as watched

register = template.Library()

LONG_WORD = re.compile(r"\S{24,}")
SIGN = re.compile(r"(?<=\w)[@._/+-](?=\w)")
# Staff's names for tables, if they differ from the model's name.
TABLE_NAMES: dict[str, str] = {
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
    "paces": "Throttle",
    "log entries": "Audit log",
}
# Staff's nouns for one row and for several, if they differ from the model's name.
NOUNS: dict[str, tuple[str, str]] = {
    "audience": ("segment", "segments"),
    "custom attribute": ("attribute", "attributes"),
    "user": ("teammate", "teammates"),
    "group": ("role", "roles"),
    "periodic task": ("task", "tasks"),
    "log entry": ("entry", "entries"),
    "pace": ("channel limit", "channel limits"),
}
# The permission needed to open an alarm's page; without it, the alarm is shown without a link.
PAGE_PERMISSIONS: dict[AlarmKind, str] = {
    AlarmKind.BEAT: "django_celery_beat.view_periodictask",
    AlarmKind.SWEEP: "django_celery_beat.view_periodictask",
    AlarmKind.CHANNEL: "delivery.view_pace",
    AlarmKind.DUE: "messaging.view_message",
    AlarmKind.TROUBLE: "messaging.view_message",
    AlarmKind.PAUSED: "messaging.view_message",
    AlarmKind.UNCERTAIN: "delivery.view_deliveryrecord",
    AlarmKind.ANSWERS: "delivery.view_conversation",
    AlarmKind.WEBHOOKS: "audiences.view_subscription",
    AlarmKind.REFUSED: "audiences.view_integration",
    AlarmKind.MISSED: "messaging.view_message",
    AlarmKind.SECRET_KEY: "audiences.view_workspace",
    AlarmKind.CLOCK: "audiences.view_workspace",
    AlarmKind.DOMAIN: "messaging.view_sender",
}


@register.filter
def called(name: object) -> object:
    """Return staff's name for a table."""
    return TABLE_NAMES.get(str(name), name)


@register.simple_tag
def noun(opts: Any, many: int = 1) -> str:
    """Return staff's noun for one row of a table, or for several."""
    one, several = NOUNS.get(str(opts.verbose_name), (str(opts.verbose_name), str(opts.verbose_name_plural)))
    return one if many == 1 else several


@register.filter
def number(value: object) -> str:
    """Format a whole number with a comma for each thousand."""
    return f"{value:,}" if isinstance(value, int) else str(value or 0)


@register.filter
def breakable(value: object) -> object:
    """Let a long word, such as an address, break before its signs instead of anywhere."""
    if not isinstance(value, str):
        return value
    escaped = conditional_escape(value)
    return mark_safe(LONG_WORD.sub(lambda word: SIGN.sub(r"<wbr>\g<0>", word[0]), escaped))  # noqa: S308 - it is escaped


@register.inclusion_tag("outbound/console/alarms.html", takes_context=True)
def alarms(context: Context) -> dict[str, Any]:
    """Return the current alarms for teammates who may view messages."""
    user = getattr(context.get("request"), "user", None)
    if user is None or not user.has_perm("messaging.view_message"):
        return {"found": []}
    ringing = watched.active_alarms(at=timezone.now())
    pages = {kind: page for kind, page in watched.PAGES.items() if user.has_perm(PAGE_PERMISSIONS[kind])}
    return {"found": [(alarm, pages.get(AlarmKind(alarm.kind), "")) for alarm in ringing]}
