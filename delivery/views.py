"""Links inside messages."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from audiences.models import Workspace
from delivery import tracking


# A mail program posts without a cookie of ours (RFC 8058); the signed token is what allows it.
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Ask on GET, act on POST: link scanners only GET (product.md 7.11)."""
    record = tracking.record_of(token, purpose="unsubscribe")
    if record is None:
        raise Http404("This link is not one of ours.")
    if request.method == "POST":
        tracking.unsubscribe(record, at=timezone.now())
    done = request.method == "POST"
    return render(
        request, "delivery/unsubscribe.html", {"workspace": Workspace.current(), "record": record, "done": done}
    )
