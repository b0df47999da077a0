"""Decisions about accounts that allauth leaves to us: who may log in, how emails are sent."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any

from allauth.account import app_settings
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.internal.stagekit import clear_login
from allauth.core import context as allauth_context
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import get_adapter as get_identity_adapter
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.mail import EmailMessage
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template import loader
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.http import url_has_allowed_host_and_scheme

from audiences.models import Workspace
from audiences.models.sealed import seal, unseal
from outbound.console import throttle
from outbound.signin.enrolment import enrolment_link
from outbound.signin.login_limits import count_failure
from outbound.signin.sessions import UNKNOWN_ADDRESS, device_name

log = logging.getLogger(__name__)

# The key of the session for the password that a login began with.
LOGIN_HASH = "login_hash"
ADDRESS_CHANGED, CODES_GUESSED, RESET_ON_SERVER = "address_changed", "codes_guessed", "reset_on_server"
# What an email tells the teammate about a change of their sign-in, by the name of allauth's template.
CHANGES: dict[str, str] = {
    "account/email/password_changed": "The password was changed.",
    "account/email/password_set": "A password was chosen. There was none before.",
    "account/email/password_reset": "A password was chosen with a link from an email to you.",
    "mfa/email/totp_activated": "An authenticator app was set up as a second factor.",
    "mfa/email/totp_deactivated": "The authenticator app was removed.",
    "mfa/email/webauthn_added": "A passkey was added.",
    "mfa/email/webauthn_removed": "A passkey was removed.",
    "mfa/email/recovery_codes_generated": "New recovery codes were made. The earlier ones are no longer valid.",
    "socialaccount/email/account_connected": "An identity of {provider} was linked: it logs in to your account.",
    "socialaccount/email/account_disconnected": "The link to your identity of {provider} was removed.",
    ADDRESS_CHANGED: "An Admin changed the email address of your account to {address}. This email went to the earlier"
    " address.",
    CODES_GUESSED: "A person who knows the password entered so many wrong codes that the login is locked for a while.",
    RESET_ON_SERVER: "The administrator of the server removed your second factors and ended your sessions.",
}
# The texts and allauth's names of the ways to confirm a change with a second factor.
FACTORS = {"Use a code": "mfa_reauthenticate", "Use a passkey": "mfa_reauthenticate:webauthn"}
# Emails are sent by so many threads of a web process, and so many wait for them.
MAIL_THREADS, WAITING_MAILS_MOST = 2, 100
mail_threads = ThreadPoolExecutor(MAIL_THREADS, thread_name_prefix="account-mail")
waiting_mails = BoundedSemaphore(WAITING_MAILS_MOST)


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
        if user is None or getattr(user, "is_staff", False):
            return user
        # Django took the password for right, so it reported no failure.
        count_failure(request, user.get_username())
        return None

    def pre_login(self, request: HttpRequest, user: AbstractBaseUser, **facts: Any) -> HttpResponse | None:
        if not getattr(user, "is_staff", False):
            raise PermissionDenied
        request.session[LOGIN_HASH] = user.get_session_auth_hash()
        return super().pre_login(request, user, **facts)

    def login(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        """Log in, unless the password was changed or the account deactivated while the second factor was asked for."""
        is_same = constant_time_compare(request.session.pop(LOGIN_HASH, ""), user.get_session_auth_hash())
        if not is_same or not user.is_active:
            clear_login(request)
            raise ImmediateHttpResponse(HttpResponseRedirect(reverse("account_login")))
        super().login(request, user)

    def is_safe_url(self, url: str) -> bool:
        """Return whether a page may redirect to the URL: to this host only, whatever other hosts are allowed."""
        host = allauth_context.request.get_host()
        is_secure = allauth_context.request.is_secure()
        return url_has_allowed_host_and_scheme(url, allowed_hosts={host}, require_https=is_secure)

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
        if waiting_mails.acquire(blocking=False):
            mail_threads.submit(send_waiting_mail, message)
        else:
            log.error("An email about an account was not sent: %s others are waiting.", WAITING_MAILS_MOST)

    def send_notification_mail(
        self, template_prefix: str, user: Any, context: dict[str, Any] | None = None, email: str | None = None
    ) -> None:
        """Tell the teammate by email, at the address of the account or an earlier one, how their sign-in changed."""
        if to := email or user.email:
            provider = getattr((context or {}).get("provider"), "name", "")
            facts = change_facts(user, CHANGES[template_prefix].format(provider=provider, address=user.email))
            address = self.get_client_ip(self.request)
            facts["device"] = device_name(self.request.META.get("HTTP_USER_AGENT", ""))
            facts["address"] = "" if address == UNKNOWN_ADDRESS else address
            self.send_mail("account/email/sign_in_changed", to, facts)

    def send_enrolment_link(self, user: User) -> None:
        """Email a teammate the link that they need to set up a second factor after the deadline."""
        facts = {"link": enrolment_link(user), "forgotten": forgotten_url()}
        self.send_mail("account/email/enrolment", user.email, facts)

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, str]]:
        """Return the ways to confirm a change: the second factor; without one, the password or a linked identity."""
        methods = list(super().get_reauthentication_methods(user))
        by_factor = [
            {**each, "description": text} for text in FACTORS for each in methods if each["id"] == FACTORS[text]
        ]
        if by_factor:
            # The first one is offered: the passkey, unless there is an app.
            has_app = Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists()
            return by_factor if has_app else by_factor[::-1]
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


def send_waiting_mail(message: EmailMessage) -> None:
    """Send an email that has waited for this thread."""
    try:
        send_quietly(message)
    finally:
        waiting_mails.release()


def mail_reset(user: User) -> None:
    """Tell the teammate that their second factors were removed on the server."""
    facts = change_facts(user, CHANGES[RESET_ON_SERVER])
    subject, text = (
        loader.render_to_string(f"account/email/sign_in_changed_{part}.txt", facts).strip()
        for part in ("subject", "message")
    )
    if user.email:
        send_quietly(EmailMessage(subject, text, settings.DEFAULT_FROM_EMAIL, [user.email]))


def forgotten_url() -> str:
    return settings.PUBLIC_URL + reverse("account_reset_password")


def change_facts(user: User, change: str) -> dict[str, Any]:
    """Return the context of an email about a change of the sign-in."""
    facts = {"change": change, "at": timezone.now(), "username": user.get_username(), "forgotten": forgotten_url()}
    return {**facts, "workspace": Workspace.current().name}
