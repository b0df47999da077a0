"""The list of a table, as the console shows it: only declared filters, and only short searches."""

from typing import Any

from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.http import HttpRequest
from unfold.views import ChangeList

from outbound.console.idempotency import NotThisForm
from outbound.console.search import SearchForm, is_too_long


class UnknownFilter(NotThisForm):
    """The address asks for a filter that the list does not have."""

    def __init__(self, name: str) -> None:
        super().__init__(f"This list has no filter “{name[:50]}”.")


class List(ChangeList):
    """A list that refuses every parameter of its address that neither it nor its filters declare."""

    search_form_class = SearchForm

    def get_filters(self, request: HttpRequest) -> Any:
        """Read the filters; Django would take any lookup of any field, a regular expression too."""
        try:
            found = super().get_filters(request)
        except DisallowedModelAdminLookup:
            for name in self.get_filters_params():
                if not self.model_admin.lookup_allowed(name, "", request):
                    raise UnknownFilter(name) from None
            raise
        # A filter that offers nothing to choose is not shown, and would leave everything in the list.
        declared = {name for shown in found[0] for name in shown.expected_parameters()}
        if undeclared := set(self.get_filters_params()) - declared - set(self.model_admin.own_lookups):
            raise UnknownFilter(min(undeclared))
        return found

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        """Return the rows that filters and search leave: none for a search that is refused, and never all."""
        rows = super().get_queryset(request, exclude_parameters)
        return rows.none() if is_too_long(request.GET.get("q", "")) else rows
