"""The layout of the pages that allauth renders: the console's, or the login page's for visitors."""

from collections.abc import Callable
from typing import Any

from django.contrib.admin import site
from django.http import HttpRequest, HttpResponse

# The title of each page, by the name of its URL.
TITLES: dict[str, str] = {
    "account_login": "Log in",
    "account_inactive": "Deactivated",
    "account_reset_password": "New password",
    "account_reset_password_from_key": "Choose a new password",
    "account_accept_invitation": "Welcome",
    "account_change_password": "Change your password",
    "account_set_password": "Choose a password",
    "account_reauthenticate": "Confirm that it is you",
    "mfa_index": "Sign-in and security",
    "usersessions_list": "Sign-in and security",
    "openid_connect_login": "Log in",
    "openid_connect_callback": "Log in",
    "saml_login": "Log in",
    "saml_finish_acs": "Log in",
    "socialaccount_connections": "Sign-in and security",
    "socialaccount_login_cancelled": "Log in",
    "mfa_authenticate": "Second factor",
    "mfa_login_webauthn": "Log in",
    "mfa_reauthenticate": "Confirm that it is you",
    "mfa_reauthenticate_webauthn": "Confirm that it is you",
    "mfa_activate_totp": "Set up an authenticator app",
    "mfa_deactivate_totp": "Remove your authenticator app?",
    "mfa_view_recovery_codes": "Recovery codes",
    "mfa_generate_recovery_codes": "Make new recovery codes?",
    "mfa_add_webauthn": "Add a passkey",
    "mfa_edit_webauthn": "Rename a passkey",
    "mfa_remove_webauthn": "Remove a passkey?",
}


class SignInPages:
    """Middleware: notes the title of a page of sign-in, as soon as its view is called."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, _view: Any, _args: Any, _kwargs: Any) -> None:
        match = request.resolver_match
        if match is not None and not match.app_names and match.url_name in TITLES:
            request.signin_title = TITLES[match.url_name]  # type: ignore[attr-defined]


def page_layout(request: HttpRequest) -> dict[str, Any]:
    """Return the context of the layout, for pages of sign-in only."""
    title = getattr(request, "signin_title", None)
    if title is None:
        return {}
    # Each part of a page runs the context processors again.
    if not hasattr(request, "signin_layout"):
        request.signin_layout = {**site.each_context(request), "title": title}  # type: ignore[attr-defined]
    found: dict[str, Any] = request.signin_layout  # type: ignore[attr-defined]
    return found
