"""Refused names: attribute and event names that browsers sent and that are not in the catalogue."""

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from audiences import intake
from audiences.intake import Refused
from audiences.intake.attributes.refused_names import MAX_REFUSED_NAMES
from audiences.models import CustomAttribute, RefusedName
from audiences.models.catalogue import KINDS
from audiences.rules import KIND_NAMES, Kind
from outbound.console.admin import answer_without_button
from outbound.people.retirement import RetirementPages, tabs

PAGES = (("refused/", "refused"), ("refused/<int:key>/accept/", "accept"))


class RefusedNamesPages(RetirementPages):
    """The page of refused names, a tab beside the attributes."""

    def refused(self, request: HttpRequest) -> HttpResponse:
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self.page(
            request,
            "outbound/people/refused_names.html",
            title="Refused names",
            tabs=tabs(request),
            rows=RefusedName.objects.order_by("-last_at", "-pk"),
            kinds=[(kind, KIND_NAMES[Kind(kind)]) for kind, _ in KINDS],
            most=MAX_REFUSED_NAMES,
            can_change=self.has_change_permission(request),
        )

    def accept(self, request: HttpRequest, key: int) -> HttpResponse:
        """Add a name to its catalogue. An attribute gets the chosen kind, else the kind of its first value."""
        page = reverse("admin:customattribute_refused")
        if request.method != "POST":
            return answer_without_button(request, page)
        if not self.has_change_permission(request):
            raise PermissionDenied
        chosen = request.POST.get("kind", "")
        if chosen not in ("", *dict(KINDS)):
            messages.error(request, "Choose a kind.")
            return HttpResponseRedirect(page)
        try:
            with transaction.atomic():
                # If two teammates press the button at once, the second one finds no row.
                noted = RefusedName.objects.select_for_update().filter(pk=key).first()
                if noted is None:
                    raise Http404("This name is no longer in the list.")
                kind = Kind(chosen or noted.kind or Kind.TEXT)
                added = intake.accept_name(noted, kind=kind, at=timezone.now())
                what = f", as {KIND_NAMES[Kind(added.kind)]}" if isinstance(added, CustomAttribute) else ""
                self.note(request, added, f"Accepted from the refused names{what}")
        except Refused as wrong:
            messages.error(request, str(wrong))
        else:
            messages.success(request, f"“{noted.name}” is accepted{what}. From now on, its values are stored.")
        return HttpResponseRedirect(page)
