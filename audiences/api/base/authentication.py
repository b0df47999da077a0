"""Who may call the API: integrations, by their token (behaviour 2, wire 5.1)."""

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

LOADED_FIELDS = ("name", "token_key", "last_used_at", "user__username", "user__first_name", "user__is_active")
TOKEN = re.compile(r"[\x21-\x7e]{8,255}")


class TokenAuthentication(KnoxAuthentication):
    """Bearer, or HTTP Basic with the token as user name and an empty password, as the official clients send it."""

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser, Integration] | None:
        """Return the integration's user and the integration, noting that it was used; None without any credentials."""
        scheme, _, credentials = get_authorization_header(request).decode("latin-1").strip().partition(" ")
        if not scheme:
            return None
        read = TOKEN_READERS.get(scheme.lower())
        token = read(credentials.strip()) if read else ""
        if not TOKEN.fullmatch(token):
            raise AuthenticationFailed
        user, integration = self.authenticate_credentials(token.encode())
        integration.used(at=timezone.now())
        return user, integration

    def authenticate_credentials(self, token: bytes) -> tuple[AbstractBaseUser, Integration]:
        """Find the integration by the digest of its token: one row, of which little is read, as none ever ends."""
        try:
            digest = hash_token(token.decode())
            found = Integration.objects.select_related("user").only(*LOADED_FIELDS).get(pk=digest, user__is_active=True)
        except (binascii.Error, TypeError, Integration.DoesNotExist) as wrong:
            raise AuthenticationFailed from wrong
        return found.user, found

    def authenticate_header(self, request: Request) -> str:
        """Return the scheme a 401 asks for."""
        return "Bearer"


def basic_user_name(credentials: str) -> str:
    """Return the user name of HTTP Basic, "" unless the password is empty."""
    try:
        name, _, password = base64.b64decode(credentials, validate=True).decode("latin-1").partition(":")
    except (binascii.Error, ValueError):
        return ""
    return "" if password else name


TOKEN_READERS: dict[str, Callable[[str], str]] = {"bearer": str, "basic": basic_user_name}
