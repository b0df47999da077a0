"""Login by a SAML identity provider: allauth's views, with our refusals. Needs the extra `saml`."""

from typing import Any

from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.models import SocialLogin
from allauth.socialaccount.providers.saml import views
from allauth.socialaccount.providers.saml.provider import SAMLProvider
from allauth.socialaccount.providers.saml.utils import get_app_or_404
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe
from onelogin.saml2.xml_utils import OneLogin_Saml2_XML

from outbound.console import throttle
from outbound.signin.identities import BROKEN_PROVIDER, keep_next_only, leave_for

# Responses are stored until the browser asks for the next page. Real ones have a few kilobytes.
RESPONSE_SIZE_MAX = 200_000
# The browser asks for it at once. The responses of one IP address in 15 minutes, which a whole office may share: they
# are stored before they are checked.
RESPONSE_STORED_FOR, RESPONSES_MOST = 300, 200
ACS_COOKIE = "saml-acs-session"
# The parser's error of malformed XML is a SyntaxError. A response that was not asked for, or was used, is denied.
BROKEN_RESPONSE = (*BROKEN_PROVIDER, SyntaxError, PermissionDenied)


BEARER = "/samlp:Response/saml:Assertion/saml:Subject/saml:SubjectConfirmation/saml:SubjectConfirmationData"
AUDIENCE = "/samlp:Response/saml:Assertion/saml:Conditions/saml:AudienceRestriction/saml:Audience"


class CheckedProvider(SAMLProvider):
    """Accept only an assertion that was made for us and for the request of this browser."""

    def sociallogin_from_response(self, request: HttpRequest, response: Any) -> SocialLogin:
        check_assertion(response)
        return super().sociallogin_from_response(request, response)


class FinishView(views.FinishACSView):
    """The check of a stored response."""

    def get_provider(self, organization_slug: str) -> CheckedProvider:
        return CheckedProvider(self.request, app=self.get_app(organization_slug))


def check_assertion(response: Any) -> None:
    """Raise PermissionDenied unless the signed assertion names us, our URL, our request and its end.

    The library accepts an assertion that lacks these parts, and compares the URL only in part. The response around the
    assertion need not be signed, so anybody could put an assertion for another use into it.
    """
    document = OneLogin_Saml2_XML.to_etree(response.get_last_response_xml())
    ours = response.get_settings().get_sp_data()
    request_id = response.get_last_response_in_response_to()
    audiences = [OneLogin_Saml2_XML.element_text(each) for each in OneLogin_Saml2_XML.query(document, AUDIENCE)]
    confirmations = OneLogin_Saml2_XML.query(document, BEARER)
    expected = {"Recipient": ours["assertionConsumerService"]["url"], "InResponseTo": request_id}
    is_for_us = ours["entityId"] in audiences and all(
        each.get("NotOnOrAfter") and all(each.get(name) == value for name, value in expected.items())
        for each in confirmations
    )
    if not (request_id and confirmations and is_for_us):
        raise PermissionDenied("The assertion is not for us, or not for the request that the response names.")


def name_host(request: HttpRequest) -> None:
    """Set the header that the library reads, for clients that send none."""
    request.META.setdefault("HTTP_HOST", request.get_host())


def begin_login(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Begin a login: after a question by GET, at once by POST."""
    keep_next_only(request)
    name_host(request)
    return leave_for(request, views.login(request, organization_slug=organization_slug))


@csrf_exempt
@require_POST
def receive_response(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Store the response of the provider, and ask the browser for the next page, with its session."""
    get_app_or_404(request, organization_slug)
    if len(request.POST.get("SAMLResponse", "")) > RESPONSE_SIZE_MAX:
        raise Http404("This response is too large.")
    if throttle.count_attempt("saml-response", throttle.address_of(request), at=timezone.now()) > RESPONSES_MOST:
        return render(request, "429.html", status=429)
    name_host(request)
    answer: HttpResponse = views.acs(request, organization_slug)
    stored = request.saml_acs_session  # type: ignore[attr-defined]
    stored.set_expiry(RESPONSE_STORED_FOR)
    stored.save()
    answer.cookies[ACS_COOKIE]["httponly"] = True
    return answer


@require_safe
def finish_login(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Check the stored response, and log in."""
    try:
        answer: HttpResponse = FinishView.as_view()(request, organization_slug=organization_slug)
    except BROKEN_RESPONSE as problem:
        provider = get_app_or_404(request, organization_slug).get_provider(request)
        return render_authentication_error(request, provider, exception=problem)
    return answer


@require_safe
def metadata(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Return our metadata, which the provider reads once."""
    return views.metadata(request, organization_slug)


def refuse_logout(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Refuse logouts by the provider, whose messages need no signature."""
    raise Http404("Single logout is not offered.")
