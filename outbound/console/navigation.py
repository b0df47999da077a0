"""The site of the console, and its sidebar: the items, each with the permission that shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse, reverse_lazy
from django.utils.functional import SimpleLazyObject
from unfold.sites import UnfoldAdminSite

from delivery.models import Conversation

OUTBOUND = "admin:messaging_message_changelist"
INBOX = "admin:delivery_conversation_changelist"
UNREAD_LIMIT = 999


class ConsoleSite(UnfoldAdminSite):
    """Unfold's site with a list of all tables that is made only if a page reads it.

    Django makes it for the sidebar of every page, which takes 5 to 12 % of the page's time. Our sidebar has its own
    items.
    """

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> Any:
        app_list = super().get_app_list
        return SimpleLazyObject(lambda: app_list(request, app_label))


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


def in_inbox(request: HttpRequest) -> bool:
    """Whether the inbox or a conversation is open."""
    return request.path.startswith(reverse(INBOX))


def unread(request: HttpRequest) -> str:
    """Return the number of conversations that no teammate has read since they were opened, up to UNREAD_LIMIT."""
    if not request.user.has_perm("delivery.view_conversation"):
        return ""
    count = Conversation.objects.unseen()[: UNREAD_LIMIT + 1].count()
    return f"{UNREAD_LIMIT}+" if count > UNREAD_LIMIT else f"{count or ''}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A link to the list of a model ("app.model"), shown to teammates who may view it."""

    title: str
    icon: str
    model: str
    query: str = ""
    # Whether this entry is marked as open; None if its list and the pages below it are.
    active: Callable[[HttpRequest], bool] | None = None

    def as_item(self) -> dict[str, Any]:
        """Return the entry as Unfold reads it."""
        app, model = self.model.split(".")
        link = reverse_lazy(f"admin:{app}_{model}_changelist")
        return {
            "title": self.title,
            "icon": self.icon,
            "link": (lambda _request: f"{link}{self.query}") if self.query else link,
            "permission": has_any_permission(f"{app}.view_{model}"),
            **({"active": self.active} if self.active else {}),
        }


INBOX_ENTRY = Entry("Inbox", "inbox", "delivery.conversation", active=in_inbox)
SECTIONS: dict[str, tuple[Entry, ...]] = {
    "Outbound": (
        Entry("All", "send", "messaging.message", active=tab("")),
        Entry("Ongoing", "autorenew", "messaging.message", "?send_type__exact=ongoing", tab("ongoing")),
        Entry("One-off", "campaign", "messaging.message", "?send_type__exact=one_off", tab("one_off")),
        Entry("Delivery records", "receipt_long", "delivery.deliveryrecord"),
    ),
    "Customers": (
        Entry("People", "group", "audiences.customer"),
        Entry("Companies", "apartment", "audiences.company"),
        Entry("Segments", "filter_alt", "audiences.audience"),
        Entry("Tags", "sell", "audiences.tag"),
        Entry("Suppression list", "unsubscribe", "audiences.suppression"),
        Entry("Attributes", "list_alt", "audiences.customattribute", active=in_catalogues),
    ),
    "Settings": (
        Entry("Workspace", "tune", "audiences.workspace"),
        Entry("Throttle", "speed", "delivery.pace"),
        Entry("Senders", "badge", "messaging.sender"),
        Entry("Topics", "topic", "audiences.messagetopic"),
        Entry("Saved replies", "quickreply", "messaging.savedreply"),
        Entry("Staff", "manage_accounts", "auth.user"),
        Entry("Roles", "shield_person", "auth.group"),
        Entry("Audit log", "history", "admin.logentry"),
        Entry("Schedule", "schedule", "django_celery_beat.periodictask"),
        Entry("Integration", "integration_instructions", "audiences.integration", active=in_integration),
    ),
}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sections of the sidebar as Unfold reads them."""
    inbox = {**INBOX_ENTRY.as_item(), "counted": "inbox", "count": unread(request)}
    sections = [
        {"title": title, "separator": title != "Outbound", "items": [entry.as_item() for entry in entries]}
        for title, entries in SECTIONS.items()
    ]
    return [{"items": [inbox]}, *sections]
