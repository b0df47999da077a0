"""Decisions about accounts that allauth leaves to us: who may log in, how emails are sent."""

import logging
import threading
import time
from typing import Any

from allauth.account import app_settings
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.core import context as allauth_context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import get_adapter as get_identity_adapter
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.mail import EmailMessage
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from audiences.models import Workspace
from audiences.models.sealed import seal, unseal
from outbound.console import throttle

log = logging.getLogger(__name__)

# The address of requests over a socket, which have none.
UNKNOWN_ADDRESS = "0.0.0.0"  # noqa: S104 - a value, not an address to listen on


class AccountAdapter(DefaultAccountAdapter):
    """Accounts of teammates: only staff log in."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": "This name and password do not match an account. Check capital letters too.",
        "enter_current_password": "This is not your current password.",
        "incorrect_password": "This is not your password.",
        "incorrect_code": "This code is not valid. Enter the newest one.",
    }

    def authenticate(self, request: HttpRequest, **credentials: Any) -> AbstractBaseUser | None:
        """Return the teammate; None for the users of integrations too, so that the answer reveals nothing."""
        user = super().authenticate(request, **credentials)
        return user if getattr(user, "is_staff", False) else None

    def pre_login(self, request: HttpRequest, user: AbstractBaseUser, **facts: Any) -> HttpResponse | None:
        if not getattr(user, "is_staff", False):
            raise PermissionDenied
        return super().pre_login(request, user, **facts)

    def get_client_ip(self, request: HttpRequest) -> str:
        return throttle.network_address(request) or UNKNOWN_ADDRESS

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("mfa_index")

    def get_reset_password_from_key_url(self, key: str) -> str:
        """Return the link of an email. The host is ours, not the one that a request names."""
        path = reverse("account_reset_password_from_key", kwargs={"uidb36": "UID", "key": "KEY"})
        return settings.PUBLIC_URL + path.replace("UID-KEY", key)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send the email in a thread: the time of the answer must not reveal whether the account exists."""
        found = {"request": allauth_context.request, "workspace": Workspace.current().name, **context}
        message = self.render_mail(template_prefix, email, found)
        threading.Thread(target=send_quietly, args=[message], daemon=True).start()

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, str]]:
        """Add the identity providers, by which teammates without a password confirm a change."""
        methods = list(super().get_reauthentication_methods(user))
        identities = get_identity_adapter()
        linked = set(SocialAccount.objects.filter(user_id=user.pk).values_list("provider", flat=True))
        for each in identities.list_providers(self.request) if linked else ():
            if each.sub_id in linked:
                url = each.get_login_url(self.request)
                methods.append({"id": each.sub_id, "description": f"Log in again with {each.name}", "url": url})
        return methods

    def is_reauthentication_required(self, *, app: str, **facts: Any) -> bool:
        """Return whether the teammate must confirm the change; a login a few minutes ago is enough."""
        request = allauth_context.request
        user = request.user
        records = get_authentication_records(request, user if isinstance(user, User) else None)
        is_recent = bool(records) and time.time() - records[-1]["at"] < app_settings.REAUTHENTICATION_TIMEOUT
        return not is_recent and super().is_reauthentication_required(app=app, **facts)


class SecondFactorAdapter(DefaultMFAAdapter):
    """Second factors of teammates. Their secrets are encrypted in the database."""

    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": AccountAdapter.error_messages["incorrect_code"],
    }

    def encrypt(self, text: str) -> str:
        return seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        return unseal(encrypted_text, name="The secret of a second factor")

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        return {**super().get_public_key_credential_rp_entity(), "name": "Outbound"}

    def generate_authenticator_name(self, user: AbstractBaseUser, type: str) -> str:  # noqa: A002 - allauth's signature
        return f"Passkey {Authenticator.objects.filter(user_id=user.pk, type=type).count() + 1}"


def send_quietly(message: EmailMessage) -> None:
    """Send an email; log a failure, which the page must not show."""
    try:
        message.send()
    except Exception:
        log.exception("An email about an account could not be sent.")
