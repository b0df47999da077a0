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
        declared = {name for shown in found[0] for name in shown.expected_parameters()}
        undeclared = set(self.get_filters_params()) - declared - set(self.model_admin.own_lookups)
        # Django leaves out a filter without choices. A link with it, from when it had some, finds no rows.
        self.has_filter_without_choices = any(self.is_left_out(name, shown=found[0]) for name in undeclared)
        if unknown := {name for name in undeclared if not self.is_left_out(name, shown=found[0])}:
            raise UnknownFilter(min(unknown))
        return found

    def is_left_out(self, name: str, *, shown: list[Any]) -> bool:
        """Return whether a parameter belongs to a filter of the list that is not shown."""
        fields, own = {getattr(spec, "field_path", "") for spec in shown}, {type(spec) for spec in shown}
        for declared in self.list_filter:
            if isinstance(declared, type):
                left_out = declared not in own and name == getattr(declared, "parameter_name", None)
            else:
                field = declared if isinstance(declared, str) else declared[0]
                left_out = field not in fields and name.startswith(f"{field}__")
            if left_out:
                return True
        return False

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        """Return the rows for the filters and the search, and no rows for a refused search."""
        rows = super().get_queryset(request, exclude_parameters)
        refused = self.has_filter_without_choices or is_too_long(request.GET.get("q", ""))
        return rows.none() if refused else rows
