"""Whose token it is."""

from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api.base.endpoint import Endpoint
from audiences.api.payloads import APP_ID
from audiences.models import Integration, Workspace


class Me(Endpoint):
    """/me."""

    def get(self, request: Request) -> Response:
        """Name the integration that calls, and the workspace it calls."""
        workspace = Workspace.current()
        caller = request.auth
        assert isinstance(caller, Integration)  # noqa: S101 - nobody else gets this far
        app = {
            "type": "app",
            "id_code": APP_ID,
            "name": workspace.name,
            "timezone": workspace.zone,
            "identity_verification": workspace.require_user_hash,
        }
        # No teammate: integrations have users of their own, who are in no list of admins.
        return Response(
            {"type": "integration", "id": str(caller.user.pk), "name": caller.name, "email": None, "app": app}
        )
