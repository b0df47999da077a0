"""External identities: login by an identity provider, which is linked by issuer and subject.

An identity is linked only to a teammate who is logged in, or who holds an invitation. An address links nothing.
"""

import logging
from typing import Any
from urllib.parse import urlencode, urlsplit

from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.account.internal.flows.reauthentication import is_reauthentication_required
from allauth.account.views._password_reset import INTERNAL_RESET_SESSION_KEY
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount import app_settings, views
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter, get_adapter
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.contrib import messages
from django.contrib.auth.models import User
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import Resolver404, resolve, reverse, reverse_lazy
from django.utils import timezone
from django.utils.http import urlsafe_base64_decode
from requests import RequestException

from outbound.signin import enrolment
from outbound.signin.forms import create_sender
from outbound.signin.invitations import invitations

log = logging.getLogger(__name__)

# What a provider needs to know: its kind, the text, the name of the URL, and the key of its part.
ADDRESSES = (
    ("openid_connect", "OpenID Connect, callback URL", "openid_connect_callback", "provider_id"),
    ("saml", "SAML, entity ID and metadata", "saml_metadata", "client_id"),
    ("saml", "SAML, assertion consumer service", "saml_acs", "client_id"),
)
# An identity provider that is away, or whose answers lack a part.
BROKEN_PROVIDER = (RequestException, KeyError, TypeError, ValueError, OAuth2Error)


class IdentityAdapter(DefaultSocialAccountAdapter):
    """Links of external identities."""

    error_messages = {
        **DefaultSocialAccountAdapter.error_messages,
        "no_password": "This is your only way to log in. Choose a password first.",
    }

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Link an unknown identity to the invited teammate whose invitation is open in this browser."""
        process = sociallogin.state.get("process")
        if process == "connect" and isinstance(request.user, User):
            confirm_before_link(request, request.user)
        if sociallogin.is_existing or process != "login":
            return
        given, token = sociallogin.user, request.session.get(INTERNAL_RESET_SESSION_KEY)
        with transaction.atomic():
            invited = find_invited(sociallogin.state.get("next"))
            if invited is None or not invitations.check_token(invited, token):
                return
            invited.first_name = invited.first_name or given.first_name
            invited.last_name = invited.last_name or given.last_name
            sociallogin.connect(request, invited)
            create_sender(invited)
        enrolment.confirm_mailbox(request, invited, at=timezone.now())
        del request.session[INTERNAL_RESET_SESSION_KEY], sociallogin.state["next"]

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: Any = None, exception: Any = None, extra_context: Any = None
    ) -> None:
        """Log why a login failed: its page only says that it did."""
        reason = (extra_context or {}).get("saml_last_error_reason") or exception or error
        is_unexpected = isinstance(exception, (KeyError, TypeError, ValueError))
        log.warning(
            "A login with %s failed: %s: %s",
            getattr(provider, "name", provider),
            type(exception).__name__ if exception else "refused",
            reason,
            exc_info=exception if is_unexpected else None,
        )

    def get_connect_redirect_url(self, request: HttpRequest, socialaccount: SocialAccount) -> str:
        return reverse("mfa_index")


def confirm_before_link(request: HttpRequest, user: User) -> None:
    """Refuse to link an identity until the teammate has confirmed that it is them, and has a second factor if due.

    Allauth would hold the identity back in the session and link it after the next confirmation of any change, and so
    also the identity of a thief of the session.
    """
    page = reverse("mfa_index")
    if enrolment.needs_link(request, user, at=timezone.now()):
        raise ImmediateHttpResponse(HttpResponseRedirect(page))
    if is_reauthentication_required(request, app="allauth.socialaccount"):
        ways = get_account_adapter(request).get_reauthentication_methods(user)
        if not ways:
            messages.error(request, "Choose a password first, and then link your identity again.")
            raise ImmediateHttpResponse(HttpResponseRedirect(page))
        messages.info(request, "Confirm that it is you, and then link your identity again.")
        raise ImmediateHttpResponse(HttpResponseRedirect(f"{ways[0]['url']}?{urlencode({'next': page})}"))


def find_invited(path: str | None) -> User | None:
    """Return the teammate of an invitation's page, locked; None if it is another page."""
    try:
        match = resolve(urlsplit(path or "").path)
        if match.url_name != "account_accept_invitation":
            return None
        pk = int(urlsafe_base64_decode(match.kwargs["uidb64"]))
    except (Resolver404, ValueError):
        return None
    return User.objects.select_for_update().filter(pk=pk).first()


def providers_for(request: HttpRequest, user: User | None = None) -> list[dict[str, Any]]:
    """Return the identity providers, each with the teammate's link if there is one."""
    links = {row.provider: row for row in SocialAccount.objects.filter(user=user)} if user else {}
    return [
        {"name": each.name, "login_url": each.get_login_url(request), "link": links.get(each.sub_id)}
        for each in get_adapter(request).list_providers(request)
    ]


def addresses() -> list[tuple[str, str]]:
    """Return the paths that the providers of the settings need to know."""
    return [
        (text, reverse(name, args=[app[key]]))
        for kind, text, name, key in ADDRESSES
        for app in app_settings.PROVIDERS.get(kind, {}).get("APPS", ())
    ]


class CheckedAdapter(OpenIDConnectOAuth2Adapter):
    """Accept an identity only with an ID token of the issuer that the settings name."""

    def complete_login(self, request: HttpRequest, app: SocialApp, token: Any, **facts: Any) -> SocialLogin:
        login = super().complete_login(request, app, token, **facts)
        claims = login.account.extra_data.get("id_token") or {}
        if claims.get("iss") != app.settings["issuer"]:
            raise OAuth2Error("The ID token is of another issuer.")
        return login


def leave_for(request: HttpRequest, answer: HttpResponse) -> HttpResponse:
    """Lead the browser to the provider by a page: forms must not be redirected to other hosts."""
    if not isinstance(answer, HttpResponseRedirect) or not urlsplit(answer.url).netloc:
        return answer
    return render(request, "socialaccount/leave.html", {"url": answer.url, "host": urlsplit(answer.url).netloc})


def keep_next_only(request: HttpRequest) -> None:
    """Drop what a link could add to the request to the provider, such as another scope."""
    if request.method == "POST":
        request.GET = QueryDict()


def openid_login(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Begin a login at the OpenID provider: after a question by GET, at once by POST."""
    keep_next_only(request)
    try:
        adapter = CheckedAdapter(request, provider_id)
        answer = OAuth2LoginView.adapter_view(adapter)(request)
    except SocialApp.DoesNotExist:
        raise Http404 from None
    except BROKEN_PROVIDER as problem:
        return render_authentication_error(request, adapter.get_provider(), exception=problem)
    return leave_for(request, answer)


def openid_callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    """End a login at the OpenID provider."""
    adapter = CheckedAdapter(request, provider_id)
    try:
        provider = adapter.get_provider()
    except SocialApp.DoesNotExist:
        raise Http404 from None
    # An answer of another issuer (RFC 9207): its code must not reach this one.
    if request.GET.get("iss", issuer := provider.app.settings["issuer"]) != issuer:
        return render_authentication_error(request, provider, exception=OAuth2Error("The answer names another issuer."))
    try:
        return OAuth2CallbackView.adapter_view(adapter)(request)
    except BROKEN_PROVIDER as problem:
        return render_authentication_error(request, provider, exception=problem)


class LinksView(views.ConnectionsView):
    """Remove the link of an identity. The account page lists them."""

    success_url = reverse_lazy("mfa_index")

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponseRedirect(reverse("mfa_index"))

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            answer: HttpResponse = super().form_valid(form)
        except SocialApp.DoesNotExist:
            messages.error(self.request, "This identity provider is no longer set up, so its link cannot be used.")
            return HttpResponseRedirect(reverse("mfa_index"))
        return answer

    def form_invalid(self, form: Any) -> HttpResponse:
        for errors in form.errors.values():
            messages.error(self.request, " ".join(errors))
        return HttpResponseRedirect(reverse("mfa_index"))
