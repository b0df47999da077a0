"""Middleware: lists the sessions of teammates, and demands a second factor if their role needs one."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from outbound.console.middleware import ADMIN
from outbound.signin import enrolment, second_factor, sessions
from outbound.signin.layout import TITLES

# The names of pages that need no second factor.
OPEN_PAGES = frozenset({*TITLES, "second_factor_send_link", "second_factor_open_link", "admin:logout", "admin:jsi18n"})
# Pages that set one up: after the deadline, only in a browser that opened a link from an email.
ENROLMENT_PAGES = frozenset({"mfa_activate_totp", "mfa_add_webauthn"})


class ListedSessions:
    """Note the session of each request to the console."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info.startswith(ADMIN) and isinstance(request.user, User):
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
        if not request.path_info.startswith(ADMIN) or not isinstance(request.user, User):
            return None
        deadline = second_factor.deadline_of(request.user)
        if deadline is None:
            return None
        request.second_factor_due = deadline  # type: ignore[attr-defined]
        at, match = timezone.now(), request.resolver_match
        page = match.view_name if match is not None else ""
        if at < deadline or (page in OPEN_PAGES and page not in ENROLMENT_PAGES):
            return None
        if page in ENROLMENT_PAGES and not enrolment.needs_link(request, request.user, at=at):
            return None
        return HttpResponseRedirect(reverse("mfa_index"))
