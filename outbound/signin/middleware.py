"""Middleware: lists the sessions of teammates, and demands a second factor if their role needs one."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from outbound.console.middleware import ADMIN
from outbound.signin import second_factor, sessions
from outbound.signin.layout import TITLES

# Pages that need no second factor, besides those of sign-in.
OPEN_PAGES = frozenset({"logout", "jsi18n"})


class ListedSessions:
    """Note the session of each request to the console."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(ADMIN) and isinstance(request.user, User):
            sessions.note_session(request)
        return self.get_response(request)


class RequiredSecondFactor:
    """Redirect to the page that sets up a second factor, once the days of grace are over.

    Until then, `request.second_factor_due` is the deadline, which every page shows.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, _view: Any, _args: Any, _kwargs: Any) -> HttpResponse | None:
        if not request.path.startswith(ADMIN) or not isinstance(request.user, User):
            return None
        deadline = second_factor.deadline_of(request.user)
        if deadline is None:
            return None
        match = request.resolver_match
        request.second_factor_due = deadline  # type: ignore[attr-defined]
        is_open = match is not None and (match.url_name in TITLES or match.url_name in OPEN_PAGES)
        if is_open or timezone.now() < deadline:
            return None
        return HttpResponseRedirect(reverse("mfa_index"))
