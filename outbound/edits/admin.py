"""Base class of admin forms: edits do not overwrite a newer version, and each change is logged."""

from typing import Any

from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from outbound.console.admin import ConsoleAdmin
from outbound.console.change_message import changes
from outbound.edits import autosave, conflicts
from outbound.edits.forms import form_name


class ChangeLogAdmin(ConsoleAdmin):
    """An admin that logs each change with old and new values, and refuses to overwrite a newer version."""

    # Fields whose values are not written to the log.
    secrets: tuple[str, ...] = ()
    guards_edits = True
    change_form_before_template = "outbound/edits/admin_form.html"

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """Lock the row and compare its version before Django saves the form."""
        if request.method != "POST" or object_id is None:
            return super().changeform_view(request, object_id, form_url, extra_context)
        with transaction.atomic():
            if row := self.get_locked_object(request, unquote(object_id)):
                names = flatten_fieldsets(self.get_fieldsets(request, row))
                current = self.get_form(request, row, change=True, fields=names)(instance=row)
                request.POST, found = conflicts.resolve(request.POST, current=current)
                if found:
                    return conflicts.conflict_page(self, request, found, row=row)
            return super().changeform_view(request, object_id, form_url, extra_context)

    def get_locked_object(self, request: HttpRequest, key: str) -> Any:
        """Lock the row and return it; None if it does not exist or the teammate may not change it."""
        row = self.get_object(request, key)
        if row is None or not self.has_change_permission(request, row):
            return None
        list(self.model._default_manager.select_for_update().filter(pk=row.pk))  # noqa: SLF001 - Django's name
        return self.get_object(request, key)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Add the version that the page shows."""
        obj = kwargs.get("obj")
        if obj is not None and self.has_change_permission(request, obj):
            name = form_name(str(self.model._meta.model_name), obj)
            context["open_form"] = autosave.open_form(request, name, at=timezone.now())
            context["seen"] = conflicts.version_of(context["adminform"].form)
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Save the row, and tell the others who have its form open."""
        super().save_model(request, obj, form, change)
        if change:
            autosave.note_saved(request, form_name(str(self.model._meta.model_name), obj), at=timezone.now())

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:  # noqa: FBT001, FBT002 - Django's own signature
        """Return the old and new value of each changed field."""
        if add:
            return [{"added": {}}]
        return changes(form, secrets=self.secrets) or "Saved without changes"
