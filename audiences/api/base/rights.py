"""Rights of API tokens: each call needs one; a webhook needs "read" too, because it sends data (wire 5.1)."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from audiences.api.base.errors import Forbidden
from audiences.models import Integration


class HasRight(BasePermission):
    """Permission for a call: the token has the right that the view's `required_right` names."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True, or raise Forbidden. An address without this method answers 404 or 405 to every token."""
        integration = request.auth
        if not isinstance(integration, Integration) or not hasattr(view, str(request.method).lower()):
            return True
        only = f"This token has only {' and '.join(f'“{right}”' for right in integration.rights)}."
        if view.required_right not in integration.rights:
            raise Forbidden(f"This call needs the right “{view.required_right}”. {only}")
        if view.needs_read_to_write and "read" not in integration.rights:
            raise Forbidden(f"This call also needs the right “read”, because notifications contain data. {only}")
        return True
