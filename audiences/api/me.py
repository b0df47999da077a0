"""Endpoint of the caller: the teammate for whom the token acts."""

from django.contrib.auth import get_user_model
from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api.base.endpoint import Endpoint
from audiences.api.payloads import APP_ID, admin
from audiences.models import Integration, Workspace


class Me(Endpoint):
    """/me."""

    def get(self, request: Request) -> Response:
        """Return the teammate for whom the token acts, or an Admin if that one has left, and the workspace."""
        workspace, caller = Workspace.current(), request.auth
        assert isinstance(caller, Integration)  # noqa: S101 - authentication accepts only integrations
        # Clients expect a teammate here; if the token's own has left, an Admin. The token does not act for the Admin.
        admins = get_user_model().objects.filter(is_staff=True, is_active=True).order_by("-is_superuser", "pk")
        teammate = caller.acting_teammate() or admins.first()
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
