"""`/demo/site/`: the website of Fernwood's product, with the messenger. Only with DEMO.

It does what a customer's own website does: its server computes the user_hash, its pages load messenger.js and boot it,
and its Content Security Policy is as strict as they come.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from audiences import identity_verification
from audiences.models import Customer, Workspace
from audiences.models.customers import CustomerQuerySet

LOGGED_IN = "demo-site-customer"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
PAGES = {"home": "Plan work together", "projects": "Projects", "pricing": "Pricing"}
# The customers to log in as with one click: their description, and the query that finds them.
KINDS: dict[str, Callable[[CustomerQuerySet], Any]] = {
    "Just signed up": lambda users: users.exclude(signed_up_at=None).order_by("-signed_up_at"),
    "Signed up days ago, and has no project yet": lambda users: (
        users.filter(signed_up_at__lt=timezone.now() - timedelta(days=3))
        .exclude(event_summaries__name="created-project")
        .order_by("-signed_up_at")
    ),
    "On the pro plan": lambda users: users.filter(attributes__plan="pro").order_by("pk"),
    "In charge at an enterprise": lambda users: users.filter(
        attributes__plan="enterprise", attributes__is_admin=True
    ).order_by("pk"),
    "Not seen for a month": lambda users: users.filter(last_seen_at__lt=timezone.now() - timedelta(days=31)).order_by(
        "-last_seen_at"
    ),
    "Unsubscribed from emails": lambda users: users.filter(unsubscribed_from_emails=True).order_by("pk"),
}


@require_safe
def page(request: HttpRequest, name: str = "home") -> HttpResponse:
    return render_page(request, f"demo/site/{name}.html", {"title": PAGES[name], "name": name})


@require_safe
def login(request: HttpRequest) -> HttpResponse:
    """Offer a few customers to log in as."""
    users = Customer.objects.present().users().exclude(user_id=None)
    found = [(kind, customer) for kind, choose in KINDS.items() if (customer := choose(users).first())]
    return render_page(request, "demo/site/login.html", {"title": "Log in", "name": "login", "customers": found})


@require_POST
def log_in(request: HttpRequest) -> HttpResponse:
    """Log in as a customer; the demo's website has no passwords."""
    wanted = request.POST.get("user_id", "").strip()
    customer = Customer.objects.present().users().filter(user_id=wanted).first() if "\0" not in wanted else None
    if customer is None:
        return redirect("demo:site-login")
    request.session[LOGGED_IN] = customer.pk
    return redirect("demo:site")


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    """Log out of the website. Staff of Outbound in the same browser stay logged in."""
    request.session.pop(LOGGED_IN, None)
    return redirect("demo:site")


def render_page(request: HttpRequest, template: str, facts: dict[str, Any]) -> HttpResponse:
    """Render a page for the logged-in customer."""
    customer = Customer.objects.present().filter(pk=request.session.get(LOGGED_IN, 0)).first()
    facts |= {"customer": customer, "settings": settings_of(customer), "pages": PAGES}
    response = render(request, template, facts)
    response["Content-Security-Policy"] = POLICY
    return response


def settings_of(customer: Customer | None) -> dict[str, Any]:
    """Return the messenger's settings for the user of the page: none for a visitor."""
    if customer is None or customer.user_id is None:
        return {}
    return {
        "user_id": customer.user_id,
        "email": customer.email,
        "name": customer.name,
        "user_hash": identity_verification.user_hash(Workspace.current().identity_secret, customer.user_id),
    }
