"""The forms of the second factor: allauth's, counted by django-axes, with each code accepted once."""

import logging
import time
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.core import context as allauth_context
from allauth.core.internal.cryptokit import normalize_user_code
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.forms import GenerateRecoveryCodesForm
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn import forms as webauthn
from allauth.mfa.webauthn.internal.auth import parse_authentication_response
from axes.handlers.proxy import AxesProxyHandler
from django.core.exceptions import ValidationError
from django.db import transaction

from outbound.signin.adapter import CODES_GUESSED
from outbound.signin.forms import ConsoleFields
from outbound.signin.login_limits import count_failure

log = logging.getLogger(__name__)

# Longer than a code of an app is valid: its 30 seconds, and those before and after.
CODES_REMEMBERED_FOR = 120
CODE_OR_RECOVERY_CODE = "Code of your app, or a recovery code"


def refuse_used_code(authenticator: Authenticator, code: str) -> None:
    """Note the code of an app; raise ValidationError if it was used already.

    Allauth notes used codes in the cache, which web processes do not share unless CACHE_URL is set.
    """
    now, typed = int(time.time()), normalize_user_code(code)
    used = {
        each: at for each, at in authenticator.data.get("used_codes", {}).items() if now - at < CODES_REMEMBERED_FOR
    }
    if typed in used:
        raise get_adapter().validation_error("incorrect_code")
    authenticator.data["used_codes"] = {**used, typed: now}
    authenticator.save(update_fields=["data"])


class CountedCode(ConsoleFields):
    """Mixin: a wrong code counts as a failed login of the teammate."""

    labels = {"code": CODE_OR_RECOVERY_CODE}
    user: Any
    authenticator: Authenticator

    def clean_code(self) -> str:
        request, name = allauth_context.request, self.user.get_username()
        if not AxesProxyHandler.is_allowed(request, {"username": name}):
            request.axes_locked_out = True
            raise get_adapter().validation_error("too_many_login_attempts")
        try:
            with transaction.atomic():
                # Two requests with one code wait for each other.
                list(Authenticator.objects.select_for_update().filter(user=self.user))
                code = str(super().clean_code())  # type: ignore[misc]
                if self.authenticator.type == Authenticator.Type.TOTP:
                    refuse_used_code(self.authenticator, code)
        except ValidationError:
            count_failure(request, name)
            if getattr(request, "axes_locked_out", False):
                get_adapter().send_notification_mail(CODES_GUESSED, self.user)
            raise
        return code


class LoginCodeForm(CountedCode, AuthenticateForm):
    """The code after the password."""


class ReauthenticationCodeForm(CountedCode, ReauthenticateForm):
    """A code before a change of the sign-in."""


class ActivateAppForm(ConsoleFields, ActivateTOTPForm):
    """The first code of an authenticator app."""

    labels = {"code": "Code of the app"}


class NewRecoveryCodesForm(ConsoleFields, GenerateRecoveryCodesForm):
    """The question whether to make new recovery codes."""


class ParsedCredential:
    """Mixin: a malformed answer of a browser is a wrong code, not an error of the server."""

    def full_clean(self) -> None:
        try:
            super().full_clean()  # type: ignore[misc]
        except (AttributeError, KeyError, TypeError, ValueError):
            self.cleaned_data: dict[str, Any] = {}
            self.add_error("credential", get_adapter().validation_error("incorrect_code"))  # type: ignore[attr-defined]


class AddPasskeyForm(ConsoleFields, ParsedCredential, webauthn.AddWebAuthnForm):
    """A new passkey and its name."""

    labels = {"name": "Name"}
    # The page asks for a passkey that also works without a password.
    passwordless = None


class EditPasskeyForm(ConsoleFields, webauthn.EditWebAuthnForm):
    """The name of a passkey."""

    labels = {"name": "Name"}


class CheckedPasskey(ParsedCredential):
    """Mixin: refuse a passkey whose counter of signatures does not grow, because it is a copy."""

    def clean_credential(self) -> Authenticator:
        given = self.cleaned_data["credential"]
        passkey: Authenticator = super().clean_credential()  # type: ignore[misc]
        count = parse_authentication_response(given).response.authenticator_data.counter
        with transaction.atomic():
            passkey = Authenticator.objects.select_for_update().select_related("user").get(pk=passkey.pk)
            before = passkey.data.get("sign_count", passkey.wrap().authenticator_data.counter)
            # Passkeys that several devices share count nothing.
            if (count or before) and count <= before:
                log.warning(
                    "A passkey of user %s was refused: its counter of signatures did not grow.", passkey.user.pk
                )
                raise get_adapter().validation_error("incorrect_code")
            passkey.data["sign_count"] = count
            passkey.save(update_fields=["data"])
        return passkey


class LoginPasskeyForm(CheckedPasskey, webauthn.LoginWebAuthnForm):
    """A login by passkey alone."""


class AuthenticatePasskeyForm(CheckedPasskey, webauthn.AuthenticateWebAuthnForm):
    """A passkey after the password."""


class ReauthenticatePasskeyForm(CheckedPasskey, webauthn.ReauthenticateWebAuthnForm):
    """A passkey before a change of the sign-in."""
