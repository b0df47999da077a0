"""Links inside messages: the picture that tells of an opening, links that lead over us, unsubscribing."""

import base64

from csp.constants import NONE, SELF, UNSAFE_INLINE
from csp.decorators import csp
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from audiences.models import Workspace
from delivery.tracking import bots, links

# A transparent GIF of one pixel.
PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
# No page of ours for strangers runs a script, loads from elsewhere, or is shown in another.
STRICT = {
    "default-src": [NONE],
    "style-src": [UNSAFE_INLINE],
    "img-src": [SELF],
    "form-action": [SELF],
    "frame-ancestors": [NONE],
    "base-uri": [NONE],
}


@never_cache
@require_safe
def opened(request: HttpRequest, token: str) -> HttpResponse:
    """Answer a picture, whatever the token is, and count who loaded it."""
    links.opened(token, who=bots.visitor_kind(request.headers, method=str(request.method)), at=timezone.now())
    return HttpResponse(PIXEL, content_type="image/gif", headers={"Cross-Origin-Resource-Policy": "cross-origin"})


@never_cache
@require_safe
def click(request: HttpRequest, token: str, number: str) -> HttpResponse:
    """Lead on to where the link of the message leads, and nowhere else."""
    who = bots.visitor_kind(request.headers, method=str(request.method))
    address = links.follow(token, int(number), who=who, at=timezone.now())
    if address is None:
        raise Http404("This link is not one of ours.")
    headers = {"Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow"}
    return HttpResponseRedirect(address, headers=headers)


# A mail program posts without a cookie of ours (RFC 8058); the sealed token is what allows it.
@never_cache
@csrf_exempt
@csp(STRICT)  # type: ignore[arg-type]
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Ask on GET, act on POST: link scanners only GET (behaviour 7.5). Whoever changes their mind posts `again`."""
    record = links.record_of(token)
    if record is None:
        raise Http404("This link is not one of ours.")
    done = ""
    if request.method == "POST":
        done = "subscribed" if "again" in request.POST else "unsubscribed"
        DOES[done](record, at=timezone.now())
    context = {"workspace": Workspace.current(), "email": masked(record.customer.email or ""), "done": done}
    page = render(request, "delivery/unsubscribe.html", context)
    page["Referrer-Policy"] = "no-referrer"
    return page


DOES = {"unsubscribed": links.unsubscribe, "subscribed": links.subscribe_again}


def masked(email: str) -> str:
    """An address its owner recognises, and whom a mail was forwarded to learns nothing from."""
    name, at, host = email.rpartition("@")
    return f"{name[:2]}…{at}{host}" if at else ""
