"""The list of a table: accepts only declared filters and short searches."""

from typing import Any

from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.http import HttpRequest
from unfold.views import ChangeList

from outbound.console.idempotency import RefusedForm
from outbound.console.search import SearchForm, is_too_long


class UnknownFilter(RefusedForm):
    """The URL asks for a filter that the list does not have."""

    def __init__(self, name: str) -> None:
        super().__init__(f"This list has no filter “{name[:50]}”.")


class ConsoleChangeList(ChangeList):
    """A list that refuses every URL parameter that neither it nor its filters declare."""

    search_form_class = SearchForm

    def get_filters(self, request: HttpRequest) -> Any:
        """Return the filters and refuse undeclared ones, because Django would accept any lookup of any field."""
        try:
            found = super().get_filters(request)
        except DisallowedModelAdminLookup:
            for name in self.get_filters_params():
                if not self.model_admin.lookup_allowed(name, "", request):
                    raise UnknownFilter(name) from None
            raise
        # A filter without choices is not shown, and would not limit the list.
        declared = {name for shown in found[0] for name in shown.expected_parameters()}
        if undeclared := set(self.get_filters_params()) - declared - set(self.model_admin.own_lookups):
            raise UnknownFilter(min(undeclared))
        return found

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        """Return the rows for the filters and the search, and no rows for a refused search."""
        rows = super().get_queryset(request, exclude_parameters)
        return rows.none() if is_too_long(request.GET.get("q", "")) else rows
