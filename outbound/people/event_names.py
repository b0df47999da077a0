"""Events: the names that customers' events have, what goes by each, and whether it is in use."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from delivery.maintenance import retirement
from outbound.console.admin import column
from outbound.people.retirement import InUseOrRetired, RetirementPages, listed


class EventNameAdmin(RetirementPages):
    """The names that events have."""

    list_display = ("name", "since", "state")
    since = column("created_at", called="Since")
    nothing_yet = "Events are what your API and your site say that customers did."
    list_filter = (InUseOrRetired,)
    search_fields = ("name",)
    search_help_text = "Search by name"
    ordering = ("name",)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """One event: what goes by it, and the button that retires it."""
        event = self.get_object_or_refuse(request, object_id, to="view")
        can_change = self.has_change_permission(request, event)
        if request.method == "POST" and not can_change:
            raise PermissionDenied
        uses = retirement.uses_of(event)
        return self.page(
            request,
            "outbound/people/event_name.html",
            title=event.name,
            original=event,
            can_change=can_change,
            uses=listed([*uses.messages, *uses.segments]),
            blocking=listed(uses.blocking),
            log=self.history_of(event),
        )
