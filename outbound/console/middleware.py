"""Middleware: staff see times in the workspace's time zone."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from audiences.models import Workspace

ADMIN = "/admin/"


class WorkspaceZone:
    """Activate the workspace's time zone for requests to the console only."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith(ADMIN):
            return self.get_response(request)
        with timezone.override(Workspace.current().tz):
            return self.get_response(request)
