"""The event catalogue: the names of events, their uses, and whether each is in use or retired."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from delivery.maintenance import retirement
from outbound.console.admin import column
from outbound.people.retirement import InUseOrRetired, RetirementPages, use_rows


class EventNameAdmin(RetirementPages):
    """Event names: the list, and a page of uses with the button that retires a name."""

    list_display = ("name", "since", "state")
    since = column("created_at", called="Since")
    nothing_yet = "Events are recorded when your API or your site reports what a customer did."
    list_filter = (InUseOrRetired,)
    search_fields = ("name",)
    search_help_text = "Search by name"
    ordering = ("name",)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
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
            uses=use_rows([*uses.messages, *uses.segments]),
            blocking=use_rows(uses.blocking),
            log=self.history_of(event),
        )
