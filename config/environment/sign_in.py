"""Settings of sign-in: django-allauth runs the pages, django-axes counts failed logins."""

import hashlib
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from config.environment.extras import require_package
from config.environment.urls import read_identity_url
from config.environment.variables import read_certificate, read_number, read_required, read_text

APPS = ["allauth", "allauth.account", "allauth.mfa", "allauth.usersessions", "allauth.socialaccount"]
APPS += ["allauth.socialaccount.providers.openid_connect"]
# The extra `saml`.
HAS_SAML = find_spec("onelogin") is not None
if HAS_SAML:
    APPS.append("allauth.socialaccount.providers.saml")


SAML_SLUG = "idp"


def read_settings() -> dict[str, Any]:
    """Return the settings of sign-in."""
    return {
        **PASSWORDS,
        **ALLAUTH,
        **SECOND_FACTOR,
        "SOCIALACCOUNT_ADAPTER": "outbound.signin.identities.IdentityAdapter",
        "SOCIALACCOUNT_EMAIL_VERIFICATION": "none",
        "SOCIALACCOUNT_PROVIDERS": read_providers(),
        **AXES,
        # The limit for one user name from one IP address; outbound.signin.login_limits has the others.
        "AXES_FAILURE_LIMIT": read_number("LOGIN_TRIES", default=10, least=1, most=1_000_000),
    }


def read_providers() -> dict[str, Any]:
    """Return the identity providers."""
    providers: dict[str, Any] = {}
    if issuer := read_identity_url("OIDC_ISSUER", example="https://login.example.com"):
        providers |= openid_provider(
            issuer=issuer,
            client_id=read_required("OIDC_CLIENT_ID", because="OIDC_ISSUER"),
            secret=read_text("OIDC_CLIENT_SECRET"),
            name=read_text("OIDC_NAME", default="OpenID Connect"),
        )
    if entity_id := read_text("SAML_ENTITY_ID").strip():
        require_package("SAML_ENTITY_ID", module="onelogin", package="python3-saml", lock="requirements-saml.lock")
        providers |= saml_provider(
            entity_id=entity_id,
            sso_url=read_identity_url("SAML_SSO_URL", example="https://login.example.com", because="SAML_ENTITY_ID"),
            certificate=read_certificate("SAML_CERTIFICATE", because="SAML_ENTITY_ID"),
            name=read_text("SAML_NAME", default="SAML"),
        )
    return providers


def openid_provider(*, issuer: str, client_id: str, secret: str, name: str) -> dict[str, Any]:
    """Return the settings of an OpenID provider."""
    settings = {
        "server_url": issuer.rstrip("/"),
        "issuer": issuer,
        # The subject is that of the ID token, whose issuer is checked.
        "fetch_userinfo": False,
        "oauth_pkce_enabled": True,
    }
    app = {"provider_id": provider_id("oidc", issuer), "name": name, "client_id": client_id, "secret": secret}
    return {"openid_connect": {"APPS": [{**app, "settings": settings}]}}


def saml_provider(*, entity_id: str, sso_url: str, certificate: str, name: str) -> dict[str, Any]:
    """Return the settings of a SAML identity provider."""
    settings = {
        "idp": {"entity_id": entity_id, "sso_url": sso_url, "x509cert": certificate},
        "advanced": {
            "strict": True,
            "want_assertion_signed": True,
            "want_attribute_statement": False,
            "want_name_id": True,
            "reject_idp_initiated_sso": True,
            "reject_deprecated_algorithm": True,
            "allow_single_label_domains": True,
            "name_id_format": "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
        },
    }
    # Allauth calls the part of the URL that names the provider its client ID.
    app = {"provider_id": provider_id("saml", entity_id), "name": name, "client_id": SAML_SLUG, "settings": settings}
    return {"saml": {"APPS": [app]}}


def provider_id(kind: str, issuer: str) -> str:
    """Return the key of an issuer: links of identities keep it, so those of another issuer are others."""
    return f"{kind}-{hashlib.sha256(issuer.encode()).hexdigest()[:16]}"


PASSWORDS: dict[str, Any] = {
    "AUTH_PASSWORD_VALIDATORS": [
        {"NAME": f"django.contrib.auth.password_validation.{name}"}
        for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
    ],
    # Axes is first: after too many failed logins the password is not checked. Django's own backend checks it, because
    # allauth's hashes it more often for known names, which reveals them by the time of the answer.
    "AUTHENTICATION_BACKENDS": [
        "axes.backends.AxesStandaloneBackend",
        "django.contrib.auth.backends.ModelBackend",
    ],
    "LOGIN_URL": "admin:login",
    "LOGIN_REDIRECT_URL": "admin:index",
}
AXES: dict[str, Any] = {
    "AXES_HANDLER": "outbound.signin.login_limits.LoginLimits",
    "AXES_COOLOFF_TIME": timedelta(minutes=15),
    "AXES_LOCKOUT_PARAMETERS": [["username", "ip_address"]],
    "AXES_RESET_ON_SUCCESS": True,
    "AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT": False,
    "AXES_CLIENT_IP_CALLABLE": "outbound.console.throttle.network_address",
    "AXES_LOCKOUT_CALLABLE": "outbound.signin.views.locked_out",
    "AXES_DISABLE_ACCESS_LOG": True,
    "AXES_ENABLE_ADMIN": False,
    "AXES_VERBOSE": False,
}
ALLAUTH: dict[str, Any] = {
    "ACCOUNT_ADAPTER": "outbound.signin.adapter.AccountAdapter",
    "ACCOUNT_FORMS": {
        "login": "outbound.signin.forms.LoginForm",
        "reset_password": "outbound.signin.forms.ForgottenForm",
        "reset_password_from_key": "outbound.signin.forms.NewPasswordForm",
        "user_token": "outbound.signin.forms.LinkForm",
        "change_password": "outbound.signin.forms.ChangePasswordForm",
        "set_password": "outbound.signin.forms.SetPasswordForm",
        "reauthenticate": "outbound.signin.forms.ReauthenticateForm",
    },
    # Teammates come by invitation only.
    "ACCOUNT_SIGNUP_ENABLED": False,
    "ACCOUNT_LOGIN_METHODS": {"username"},
    "ACCOUNT_EMAIL_VERIFICATION": "none",
    "ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS": False,
    "ACCOUNT_EMAIL_SUBJECT_PREFIX": "",
    "ACCOUNT_SESSION_REMEMBER": True,
    "ACCOUNT_PASSWORD_RESET_TOKEN_GENERATOR": "django.contrib.auth.tokens.PasswordResetTokenGenerator",
    "ACCOUNT_REAUTHENTICATION_REQUIRED": True,
    "ACCOUNT_REAUTHENTICATION_METHODS": {"password", "mfa"},
    # Django-axes counts failed logins. An email for a new password: per address that was typed, and per IP address,
    # which a whole office may share.
    "ACCOUNT_RATE_LIMITS": {"login": None, "login_failed": None, "reset_password": "20/15m/ip,3/15m/key"},
}
SECOND_FACTOR: dict[str, Any] = {
    "MFA_ADAPTER": "outbound.signin.adapter.SecondFactorAdapter",
    "MFA_FORMS": {
        name: f"outbound.signin.second_factor_forms.{form}"
        for name, form in {
            "authenticate": "LoginCodeForm",
            "reauthenticate": "ReauthenticationCodeForm",
            "activate_totp": "ActivateAppForm",
            "generate_recovery_codes": "NewRecoveryCodesForm",
            "add_webauthn": "AddPasskeyForm",
            "edit_webauthn": "EditPasskeyForm",
            "login_webauthn": "LoginPasskeyForm",
            "authenticate_webauthn": "AuthenticatePasskeyForm",
            "reauthenticate_webauthn": "ReauthenticatePasskeyForm",
        }.items()
    },
    "MFA_SUPPORTED_TYPES": ["totp", "webauthn", "recovery_codes"],
    "MFA_PASSKEY_LOGIN_ENABLED": True,
    # Clocks of phones differ, and people type slowly: the code before and the one after the present one are valid.
    "MFA_TOTP_TOLERANCE": 1,
    "MFA_TOTP_ISSUER": "Outbound",
    "MFA_ALLOW_UNVERIFIED_EMAIL": True,
    "MFA_RECOVERY_CODES_SHOW_ONCE": True,
    # A passkey cannot be guessed; a whole office may share an IP address.
    "MFA_RATE_LIMITS": {"webauthn_login": "60/m/ip"},
}
