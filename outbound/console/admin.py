"""The admin base classes of the console: page rendering, log entries and permissions."""

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

from outbound.console.lists import ConsoleChangeList
from outbound.console.search import is_too_long
from outbound.console.timeouts import longer_statements

# 200 pages; staff search or filter instead of paging further.
COUNT_LIMIT = 10_000
SUCCESS_WORDS = re.compile(r"\bsuccessfully ?|(?<=\w) successfully\b", re.IGNORECASE)


class ConsolePaginator(Paginator):
    """A paginator whose footer shows the total with staff's noun."""

    template_name = "outbound/console/pagination.html"


class CappedPaginator(ConsolePaginator):
    """A paginator that counts at most COUNT_LIMIT rows, because counting a million is slower than showing a page."""

    @cached_property
    def capped_count(self) -> int:
        """Return the number of rows, at most COUNT_LIMIT + 1."""
        rows: Any = self.object_list
        return int(rows.order_by()[: COUNT_LIMIT + 1].count())

    @cached_property
    def count(self) -> int:
        """Return the number of rows, at most COUNT_LIMIT."""
        return min(COUNT_LIMIT, self.capped_count)

    @property
    def has_uncounted_rows(self) -> bool:
        """Whether there are more rows than were counted."""
        return self.capped_count > COUNT_LIMIT


def column(field: str, *, called: str, **shown: Any) -> Callable[[Any, Any], Any]:
    """Return a list column that shows a field under the heading `called`."""

    @display(description=called, ordering=field, **shown)
    def value(_admin: Any, row: Any) -> Any:
        return getattr(row, field)

    return value


def teammate(request: HttpRequest) -> User:
    """Return the logged-in user; Django's guard admits no one else to these pages."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def answer_without_button(request: HttpRequest, page: str) -> HttpResponse:
    """Answer a request for a button's URL that did not come from the button.

    A browser that was logged out requests the URL by GET after the login; it is redirected to the page with the button.
    """
    if request.method != "GET":
        return HttpResponseNotAllowed(["POST"])
    messages.info(request, "Nothing was done. Press the button again.")
    return HttpResponseRedirect(page, status=303)


class ConsoleAdmin(ModelAdmin):
    """An admin whose additional pages look and are guarded like Django's own."""

    paginator = ConsolePaginator
    list_filter_submit = True
    show_full_result_count = False
    list_per_page = 50
    empty_value_display = "–"
    # The text of an empty list: its future content, and how rows get there.
    nothing_yet = ""
    # (path, name of the method and of the URL) of each page besides Django's own.
    own_pages: tuple[tuple[str, str], ...] = ()
    # Lookups that the console's links to the list use besides its filters.
    own_lookups: tuple[str, ...] = ()

    def get_urls(self) -> list[URLPattern]:
        meta = self.model._meta
        own = [
            path(address, self.admin_site.admin_view(getattr(self, name)), name=f"{meta.model_name}_{name}")
            for address, name in self.own_pages
        ]
        return [*own, *super().get_urls()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list class that refuses undeclared parameters."""
        return ConsoleChangeList

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Refuse values with a null character, which PostgreSQL cannot store. The list refuses undeclared filters."""
        if "\x00" in "".join(map(str, value)):
            return False
        return lookup in self.own_lookups or super().lookup_allowed(lookup, value, request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return no rows for a search that is too long, in lists and in autocompletion."""
        if is_too_long(search_term):
            return queryset.none(), False
        return super().get_search_results(request, queryset, search_term)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        """Delete a row with the longer timeout, because the deletion may cascade to many rows."""
        with longer_statements():
            return super().delete_view(request, object_id, extra_context)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Find no object by a key with a null character, which PostgreSQL refuses."""
        return None if "\x00" in str(object_id) else super().get_object(request, object_id, from_field)

    def get_object_or_refuse(self, request: HttpRequest, object_id: str, *, to: str = "change") -> Any:
        """Return the object; raise Http404 if it does not exist and PermissionDenied if the teammate may not use it."""
        obj = self.get_object(request, str(object_id))
        if obj is None:
            raise Http404(f"There is no {self.model._meta.verbose_name} {object_id}.")
        if not getattr(self, f"has_{to}_permission")(request, obj):
            raise PermissionDenied
        return obj

    def page(
        self, request: HttpRequest, template: str, *, title: str, status: int = 200, **context: Any
    ) -> HttpResponse:
        """Render a page inside the console."""
        request.current_app = self.admin_site.name
        base = {**self.admin_site.each_context(request), "opts": self.model._meta, "title": title}
        return TemplateResponse(request, template, {**base, **context}, status=status)

    def note(self, request: HttpRequest, obj: Model, words: str) -> None:
        """Write an entry to the log."""
        self.log_change(request, obj, words)

    def message_user(self, request: HttpRequest, message: Any, *args: Any, **kwargs: Any) -> None:
        """Show a message without Django's “successfully”."""
        said = SUCCESS_WORDS.sub("", str(message))
        said = said[:1].upper() + said[1:]
        super().message_user(request, SafeString(said) if isinstance(message, SafeString) else said, *args, **kwargs)

    def history_of(self, obj: Model, *, most: int = 20) -> list[LogEntry]:
        """Return the log entries of an object, newest first."""
        log = LogEntry.objects.filter(object_id=str(obj.pk), content_type__model=self.model._meta.model_name)
        rows = log.filter(content_type__app_label=self.model._meta.app_label).select_related("user")
        return list(rows.order_by("-action_time", "-pk")[:most])


class ReadOnlyAdmin(ConsoleAdmin):
    """An admin without adding, changing or deleting."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
