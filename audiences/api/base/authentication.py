"""Token authentication of integrations (behaviour 2, wire 5.1)."""

import base64
import binascii
import re
from collections.abc import Callable

from django.contrib.auth.models import AbstractBaseUser
from django.utils import timezone
from knox.auth import TokenAuthentication as KnoxAuthentication
from knox.crypto import hash_token
from rest_framework.authentication import get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from audiences.models import Integration

LOADED_FIELDS = (
    "name",
    "token_key",
    "rights",
    "last_used_at",
    "teammate_id",
    "user__username",
    "user__first_name",
    "user__is_active",
)
TOKEN = re.compile(r"[\x21-\x7e]{8,255}")


class TokenAuthentication(KnoxAuthentication):
    """Bearer token, or HTTP Basic as official clients send it.

    The token is the user name of Basic, with an empty password. Older clients send `app_id:api_key`; then the token is
    the password, and any app_id is accepted, because one server is one workspace.
    """

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser, Integration] | None:
        """Return the integration and its user, and record the use. Return None if there are no credentials."""
        scheme, _, credentials = get_authorization_header(request).decode("latin-1").strip().partition(" ")
        if not scheme:
            return None
        read_token = TOKEN_READERS.get(scheme.lower())
        token = read_token(credentials.strip()) if read_token else ""
        if not TOKEN.fullmatch(token):
            raise AuthenticationFailed
        user, integration = self.authenticate_credentials(token.encode())
        integration.mark_used(at=timezone.now())
        return user, integration

    def authenticate_credentials(self, token: bytes) -> tuple[AbstractBaseUser, Integration]:
        """Find the integration by the digest of its token. Knox's expiry check is skipped: tokens never expire."""
        try:
            digest = hash_token(token.decode())
            found = Integration.objects.select_related("user").only(*LOADED_FIELDS).get(pk=digest, user__is_active=True)
        except (binascii.Error, TypeError, Integration.DoesNotExist) as wrong:
            raise AuthenticationFailed from wrong
        return found.user, found

    def authenticate_header(self, request: Request) -> str:
        """Return the scheme for the WWW-Authenticate header of a 401."""
        return "Bearer"


def basic_token(credentials: str) -> str:
    """Return the token in HTTP Basic credentials; "" if they are invalid."""
    try:
        name, _, password = base64.b64decode(credentials, validate=True).decode("latin-1").partition(":")
    except (binascii.Error, ValueError):
        return ""
    return password or name


TOKEN_READERS: dict[str, Callable[[str], str]] = {"bearer": str, "basic": basic_token}
