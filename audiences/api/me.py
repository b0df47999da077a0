"""Endpoint of the caller: the teammate for whom the token acts."""

from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api.base.endpoint import Endpoint
from audiences.api.payloads import APP_ID, admin
from audiences.models import Integration, Workspace


class Me(Endpoint):
    """/me."""

    def get(self, request: Request) -> Response:
        """Return the teammate for whom the token acts, and the workspace."""
        workspace, caller = Workspace.current(), request.auth
        assert isinstance(caller, Integration)  # noqa: S101 - authentication accepts only integrations
        teammate = caller.acting_teammate()
        token = {"type": "integration", "id": str(caller.user.pk), "name": caller.name, "rights": caller.rights}
        app = {
            "type": "app",
            "id_code": APP_ID,
            "name": workspace.name,
            "timezone": workspace.zone,
            "identity_verification": workspace.require_user_hash,
        }
        # An installation without teammates has only the token.
        who = admin(teammate) if teammate else {**token, "email": None}
        return Response({**who, "app": app, "integration": token})
