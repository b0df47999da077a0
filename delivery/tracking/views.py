"""Views behind the links in emails: tracking pixel, click redirect, unsubscribe page and confirmation page."""

import base64

from csp.constants import NONE, SELF, UNSAFE_INLINE
from csp.decorators import csp
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from audiences.models import Workspace
from delivery.models import DeliveryRecord
from delivery.tracking import bots, links, opt_in, preferences

# A transparent GIF of one pixel.
PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
# The public page runs no scripts, loads nothing from other origins and cannot be framed.
STRICT_CSP = {
    "default-src": [NONE],
    "style-src": [UNSAFE_INLINE],
    "img-src": [SELF],
    "form-action": [SELF],
    "frame-ancestors": [NONE],
    "base-uri": [NONE],
}
# 404 for a link that is not ours, 410 for one that cannot be used any more.
LINK_STATUS = {
    opt_in.LinkState.INVALID: 404,
    opt_in.LinkState.EXPIRED: 410,
    opt_in.LinkState.CHANGED: 410,
    opt_in.LinkState.ERASED: 410,
}


@never_cache
@require_safe
def opened(request: HttpRequest, token: str) -> HttpResponse:
    """Record an open and return a transparent pixel, even for an invalid token."""
    links.record_open(token, who=bots.visitor_kind(request.headers, method=str(request.method)), at=timezone.now())
    return HttpResponse(PIXEL, content_type="image/gif", headers={"Cross-Origin-Resource-Policy": "cross-origin"})


@never_cache
@require_safe
def click(request: HttpRequest, token: str, number: str) -> HttpResponse:
    """Record a click and redirect to the link's URL; only URLs from the message are possible."""
    who = bots.visitor_kind(request.headers, method=str(request.method))
    address = links.record_click(token, int(number), who=who, at=timezone.now())
    if address is None:
        raise Http404("This link is not valid.")
    headers = {"Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow"}
    return HttpResponseRedirect(address, headers=headers)


# Mail programs post without a cookie (RFC 8058); the signed token authorises the request.
@never_cache
@csrf_exempt
@csp(STRICT_CSP)  # type: ignore[arg-type]
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Ask on GET, act on POST, as link scanners only GET (behaviour 7.5); `choose` shows all topics."""
    record = links.record_of_unsubscribe_token(token)
    if record is None:
        raise Http404("This link is not valid.")
    done = save_answer(record, request.POST) if request.method == "POST" else ""
    topic = record.message.topic
    topics = list(preferences.topics_for(record))
    context = {
        "workspace": Workspace.current(),
        "email": mask_email(record.customer.email or ""),
        "done": done,
        "topic": topic,
        "topics": topics,
        "gets_email": preferences.gets_email(record),
    }
    template = "delivery/unsubscribe.html"
    if done == "saved" or (topics and "choose" in request.GET):
        template = "delivery/preferences.html"
        context["opted_out_of"] = preferences.topics_opted_out_of(record)
    page = render(request, template, context)
    page["Referrer-Policy"] = "no-referrer"
    return page


def save_answer(record: DeliveryRecord, answer: QueryDict) -> str:
    """Carry out the pressed button and return the state to show. Without a button, unsubscribe from the message."""
    at = timezone.now()
    topic = record.message.topic
    if "save" in answer:
        choices = preferences.Choices(
            offered=answer.getlist("offered"),
            shown_without=answer.getlist("shown_without"),
            chosen=answer.getlist("topic"),
            email_shown=answer.get("email_shown", ""),
            email=answer.get("email", ""),
        )
        preferences.save_preferences(record, choices, at=at)
        return "saved"
    if topic is not None and answer.get("again") == "topic":
        preferences.change_topics(record, subscribed_to=[topic], at=at)
        return "subscribed to topic"
    if "again" in answer:
        links.subscribe_again(record, at=at)
        return "subscribed"
    if topic is None or "all" in answer:
        links.unsubscribe(record, at=at)
        return "unsubscribed"
    preferences.unsubscribe_from_message(record, at=at)
    return "unsubscribed from topic"


# The signed token authorises the request, and the page works without cookies.
@never_cache
@csrf_exempt
@csp(STRICT_CSP)  # type: ignore[arg-type]
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """Ask on GET, confirm the address on POST, as link scanners only GET (behaviour 4.30)."""
    act = opt_in.confirm if request.method == "POST" else opt_in.read_link
    state, mail = act(token, at=timezone.now())
    context = {
        "workspace": Workspace.current(),
        "email": mask_email((mail and mail.address) or ""),
        "state": state,
    }
    page = render(request, "delivery/confirm.html", context, status=LINK_STATUS.get(state, 200))
    page["Referrer-Policy"] = "no-referrer"
    return page


def mask_email(email: str) -> str:
    """Mask an address so that its owner recognises it, but the recipient of a forwarded email does not learn it."""
    name, at, host = email.rpartition("@")
    return f"{name[:2]}…{at}{host}" if at else ""
