"""What all staff pages share: how a page is drawn, what goes into the log, and who is let in."""

import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.views import ChangeList

from outbound.console.lists import List
from outbound.console.search import is_too_long
from outbound.console.timeouts import longer_statements

# Nobody turns two hundred pages.
MOST_COUNTED = 10_000
WELL_DONE = re.compile(r"\bsuccessfully ?|(?<=\w) successfully\b", re.IGNORECASE)


class Pages(Paginator):
    """Pages whose foot says how many there are, of what staff call it."""

    template_name = "outbound/console/pagination.html"


class Counted(Pages):
    """Pages that are counted only as far as anybody turns them: counting a million takes longer than showing some."""

    @cached_property
    def as_far(self) -> int:
        """How many there are, one more than MOST_COUNTED at most."""
        rows: Any = self.object_list
        return int(rows.order_by()[: MOST_COUNTED + 1].count())

    @cached_property
    def count(self) -> int:
        """How many there are, MOST_COUNTED at most."""
        return min(MOST_COUNTED, self.as_far)

    @property
    def are_more(self) -> bool:
        """Whether there are more than were counted."""
        return self.as_far > MOST_COUNTED


def column(field: str, *, called: str, **shown: Any) -> Callable[[Any, Any], Any]:
    """A field as a column of a list, under the name staff have for it."""

    @display(description=called, ordering=field, **shown)
    def value(_admin: Any, row: Any) -> Any:
        return getattr(row, field)

    return value


def teammate(request: HttpRequest) -> User:
    """Whoever is logged in: Django's guard let nobody else this far."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def not_done(request: HttpRequest, page: str) -> HttpResponse:
    """Answer whoever asks for what a button does by any way but the button.

    A browser that was logged out asks for it by GET after the login: it is led to the page with the button.
    """
    if request.method != "GET":
        return HttpResponseNotAllowed(["POST"])
    messages.info(request, "Nothing was done. Press the button again.")
    return HttpResponseRedirect(page, status=303)


class ConsoleAdmin(ModelAdmin):
    """An admin whose own pages look and are guarded like Django's."""

    paginator = Pages
    list_filter_submit = True
    show_full_result_count = False
    list_per_page = 50
    empty_value_display = "–"
    # What an empty list says: what will be on it, and what brings it there.
    nothing_yet = ""
    # (address, name of the method and of the URL): pages beside those Django makes.
    own_pages: tuple[tuple[str, str], ...] = ()
    # Lookups that links of ours put into the address of the list, beside its filters.
    own_lookups: tuple[str, ...] = ()

    def get_urls(self) -> list[URLPattern]:
        """The pages of this admin, its own first."""
        meta = self.model._meta
        own = [
            path(address, self.admin_site.admin_view(getattr(self, name)), name=f"{meta.model_name}_{name}")
            for address, name in self.own_pages
        ]
        return [*own, *super().get_urls()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Take no parameters in the address of the list but those that are declared."""
        return List

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Refuse what no text of the database can hold; the list itself refuses what no filter declares."""
        if "\x00" in "".join(map(str, value)):
            return False
        return lookup in self.own_lookups or super().lookup_allowed(lookup, value, request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find nothing by a search that is too long, in lists and where one completes a name."""
        if is_too_long(search_term):
            return queryset.none(), False
        return super().get_search_results(request, queryset, search_term)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        """Delete one row, which may take many others with it."""
        with longer_statements():
            return super().delete_view(request, object_id, extra_context)

    def found(self, request: HttpRequest, object_id: str, *, to: str = "change") -> Any:
        """Return the object, or 404 where there is none and 403 where this teammate may not."""
        obj = self.get_object(request, str(object_id))
        if obj is None:
            raise Http404(f"There is no {self.model._meta.verbose_name} {object_id}.")
        if not getattr(self, f"has_{to}_permission")(request, obj):
            raise PermissionDenied
        return obj

    def page(
        self, request: HttpRequest, template: str, *, title: str, status: int = 200, **context: Any
    ) -> HttpResponse:
        """Draw a page inside the console."""
        request.current_app = self.admin_site.name
        base = {**self.admin_site.each_context(request), "opts": self.model._meta, "title": title}
        return TemplateResponse(request, template, {**base, **context}, status=status)

    def note(self, request: HttpRequest, obj: Model, words: str) -> None:
        """Write into the log who did what."""
        self.log_change(request, obj, words)

    def message_user(self, request: HttpRequest, message: Any, *args: Any, **kwargs: Any) -> None:
        """Say what was done; that it went well goes without saying."""
        said = WELL_DONE.sub("", str(message))
        said = said[:1].upper() + said[1:]
        super().message_user(request, SafeString(said) if isinstance(message, SafeString) else said, *args, **kwargs)

    def history_of(self, obj: Model, *, most: int = 20) -> list[LogEntry]:
        """What was done to it, newest first."""
        log = LogEntry.objects.filter(object_id=str(obj.pk), content_type__model=self.model._meta.model_name)
        rows = log.filter(content_type__app_label=self.model._meta.app_label).select_related("user")
        return list(rows.order_by("-action_time", "-pk")[:most])


class ReadOnlyAdmin(ConsoleAdmin):
    """An admin that shows, and changes nothing."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds a row by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody changes a row by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody deletes a row."""
        return False
