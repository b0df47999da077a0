"""The sidebar: its items, each with the permission that shows it."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.urls import reverse, reverse_lazy

from delivery.models import Conversation

OUTBOUND = "admin:messaging_message_changelist"
INBOX = "admin:delivery_conversation_changelist"
UNREAD_LIMIT = 999


def has_any_permission(*permissions: str) -> Callable[[HttpRequest], bool]:
    """Return a test whether the request's user has any of the permissions."""
    return lambda request: any(request.user.has_perm(permission) for permission in permissions)


def tab(kind: str) -> Callable[[HttpRequest], bool]:
    """Return a test whether this tab of Outbound is open."""
    address = reverse_lazy(OUTBOUND)
    return lambda request: (
        (
            request.path == address
            and request.GET.get("send_type__exact", "") == kind
            and (bool(kind) or "to" not in request.GET)
        )
        or (not kind and request.path.startswith(str(address)) and request.path != address)
    )


def in_integration(request: HttpRequest) -> bool:
    """Whether the Integration page or one below it is open."""
    tables = ("audiences_integration", "audiences_subscription")
    return any(request.path.startswith(reverse(f"admin:{table}_changelist")) for table in tables)


def in_catalogues(request: HttpRequest) -> bool:
    """Whether a page of the attributes or events is open."""
    tables = ("audiences_customattribute", "audiences_eventname")
    return any(request.path.startswith(reverse(f"admin:{table}_changelist")) for table in tables)


def item(title: str, icon: str, page: str, *, permission: str, query: str = "", **more: Any) -> dict[str, Any]:
    link = reverse_lazy(page)
    return {
        "title": title,
        "icon": icon,
        "link": (lambda _request: f"{link}{query}") if query else link,
        "permission": has_any_permission(permission),
        **more,
    }


def in_inbox(request: HttpRequest) -> bool:
    """Whether the inbox or a conversation is open."""
    return request.path.startswith(reverse(INBOX))


def unread(request: HttpRequest) -> str:
    """Return the number of conversations that no teammate has read since they were opened, up to UNREAD_LIMIT."""
    if not request.user.has_perm("delivery.view_conversation"):
        return ""
    count = Conversation.objects.unseen()[: UNREAD_LIMIT + 1].count()
    return f"{UNREAD_LIMIT}+" if count > UNREAD_LIMIT else f"{count or ''}"


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    message, customer = "messaging.view_message", "audiences.view_customer"
    return [
        {
            "items": [
                item(
                    "Inbox",
                    "inbox",
                    INBOX,
                    permission="delivery.view_conversation",
                    active=in_inbox,
                    counted="inbox",
                    count=unread(request),
                ),
            ],
        },
        {
            "title": "Outbound",
            "items": [
                item("All", "send", OUTBOUND, permission=message, active=tab("")),
                item(
                    "Ongoing",
                    "autorenew",
                    OUTBOUND,
                    permission=message,
                    query="?send_type__exact=ongoing",
                    active=tab("ongoing"),
                ),
                item(
                    "One-off",
                    "campaign",
                    OUTBOUND,
                    permission=message,
                    query="?send_type__exact=one_off",
                    active=tab("one_off"),
                ),
                item(
                    "Delivery records",
                    "receipt_long",
                    "admin:delivery_deliveryrecord_changelist",
                    permission="delivery.view_deliveryrecord",
                ),
            ],
        },
        {
            "title": "Customers",
            "separator": True,
            "items": [
                item("People", "group", "admin:audiences_customer_changelist", permission=customer),
                item(
                    "Companies", "apartment", "admin:audiences_company_changelist", permission="audiences.view_company"
                ),
                item(
                    "Segments",
                    "filter_alt",
                    "admin:audiences_audience_changelist",
                    permission="audiences.view_audience",
                ),
                item("Tags", "sell", "admin:audiences_tag_changelist", permission="audiences.view_tag"),
                item(
                    "Attributes",
                    "list_alt",
                    "admin:audiences_customattribute_changelist",
                    permission="audiences.view_customattribute",
                    active=in_catalogues,
                ),
            ],
        },
        {
            "title": "Settings",
            "separator": True,
            "items": [
                item(
                    "Workspace", "tune", "admin:audiences_workspace_changelist", permission="audiences.view_workspace"
                ),
                item("Pace", "speed", "admin:delivery_pace_changelist", permission="delivery.view_pace"),
                item("Senders", "badge", "admin:messaging_sender_changelist", permission="messaging.view_sender"),
                item("Staff", "manage_accounts", "admin:auth_user_changelist", permission="auth.view_user"),
                item("Roles", "shield_person", "admin:auth_group_changelist", permission="auth.view_group"),
                item("Log", "history", "admin:admin_logentry_changelist", permission="admin.view_logentry"),
                item(
                    "Schedule",
                    "schedule",
                    "admin:django_celery_beat_periodictask_changelist",
                    permission="django_celery_beat.view_periodictask",
                ),
                item(
                    "Integration",
                    "integration_instructions",
                    "admin:audiences_integration_changelist",
                    permission="audiences.view_integration",
                    active=in_integration,
                ),
            ],
        },
    ]
