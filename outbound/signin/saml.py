"""Login by a SAML identity provider: allauth's views, with our refusals. Needs the extra `saml`."""

from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.providers.saml import views
from allauth.socialaccount.providers.saml.utils import get_app_or_404
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from outbound.signin.identities import BROKEN_PROVIDER, keep_next_only, leave_for

# Responses are stored until the browser asks for the next page. Real ones have a few kilobytes.
RESPONSE_SIZE_MAX = 200_000
ACS_COOKIE = "saml-acs-session"
# The parser's error of malformed XML is a SyntaxError. A response that was not asked for, or was used, is denied.
BROKEN_RESPONSE = (*BROKEN_PROVIDER, SyntaxError, PermissionDenied)


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
    name_host(request)
    answer: HttpResponse = views.acs(request, organization_slug)
    answer.cookies[ACS_COOKIE]["httponly"] = True
    return answer


@require_safe
def finish_login(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Check the stored response, and log in."""
    try:
        return views.finish_acs(request, organization_slug)
    except BROKEN_RESPONSE as problem:
        provider = get_app_or_404(request, organization_slug).get_provider(request)
        return render_authentication_error(request, provider, exception=problem)


@require_safe
def metadata(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Return our metadata, which the provider reads once."""
    return views.metadata(request, organization_slug)


def refuse_logout(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Refuse logouts by the provider, whose messages need no signature."""
    raise Http404("Single logout is not offered.")
