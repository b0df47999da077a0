"""Endpoint of the calling integration."""

from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api.base.endpoint import Endpoint
from audiences.api.payloads import APP_ID
from audiences.models import Integration, Workspace


class Me(Endpoint):
    """/me."""

    def get(self, request: Request) -> Response:
        """Return the calling integration and the workspace."""
        workspace = Workspace.current()
        caller = request.auth
        assert isinstance(caller, Integration)  # noqa: S101 - authentication accepts only integrations
        app = {
            "type": "app",
            "id_code": APP_ID,
            "name": workspace.name,
            "timezone": workspace.zone,
            "identity_verification": workspace.require_user_hash,
        }
        # Not an admin: integrations have their own user accounts, which are not staff.
        return Response(
            {"type": "integration", "id": str(caller.user.pk), "name": caller.name, "email": None, "app": app}
        )
