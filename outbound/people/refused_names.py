"""The page of names that browsers wanted to add and could not, each with a button that accepts it."""

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
from outbound.console.admin import not_done
from outbound.people.retirement import RetirementPages, tabs

PAGES = (("refused/", "refused"), ("refused/<int:key>/accept/", "accept"))


class RefusedNamesPages(RetirementPages):
    """The page of refused names, beside the attributes."""

    def refused(self, request: HttpRequest) -> HttpResponse:
        """List them, the newest first."""
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self.page(
            request,
            "outbound/refused_names.html",
            title="Refused names",
            tabs=tabs(request),
            rows=RefusedName.objects.order_by("-last_at", "-pk"),
            kinds=[(kind, KIND_NAMES[Kind(kind)]) for kind, _ in KINDS],
            most=MAX_REFUSED_NAMES,
            can_change=self.has_change_permission(request),
        )

    def accept(self, request: HttpRequest, key: int) -> HttpResponse:
        """Add a name to its catalogue: an attribute as the kind that was chosen, else as what was sent."""
        page = reverse("admin:customattribute_refused")
        if request.method != "POST":
            return not_done(request, page)
        if not self.has_change_permission(request):
            raise PermissionDenied
        chosen = request.POST.get("kind", "")
        if chosen not in ("", *dict(KINDS)):
            messages.error(request, "Choose what the values are.")
            return HttpResponseRedirect(page)
        try:
            with transaction.atomic():
                # Of two who press the button at once the second finds nothing.
                noted = RefusedName.objects.select_for_update().filter(pk=key).first()
                if noted is None:
                    raise Http404("This name is not on the list any more.")
                kind = Kind(chosen or noted.kind or Kind.TEXT)
                added = intake.accept_name(noted, kind=kind, at=timezone.now())
                what = f", as {KIND_NAMES[Kind(added.kind)]}" if isinstance(added, CustomAttribute) else ""
                self.note(request, added, f"Accepted from the refused names{what}")
        except Refused as wrong:
            messages.error(request, str(wrong))
        else:
            messages.success(request, f"“{noted.name}” is accepted{what}. What browsers send under it is stored now.")
        return HttpResponseRedirect(page)
