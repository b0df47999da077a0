"""Staff read times on the workspace's clock."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from audiences.models import Workspace

ADMIN = "/admin/"


class WorkspaceZone:
    """Show every time in the console in the workspace's zone; other addresses are left alone."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer with the zone switched to the workspace's."""
        if not request.path.startswith(ADMIN):
            return self.get_response(request)
        with timezone.override(Workspace.current().tz):
            return self.get_response(request)
