"""Integration: what engineers need to connect their product, on one page, and who may change it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from audiences.models import Integration, Notification, NotificationState, Subscription, Workspace
from audiences.models.workspace import new_secret
from delivery.messenger import origins, script
from outbound.console.admin import not_done
from outbound.console.change_message import ToldAdmin, from_to

PAGE = "admin:audiences_integration_changelist"
CHANGE_WORKSPACE = "audiences.change_workspace"
MOST_ORIGINS = 100
FOR_VISITORS = "{}"
# How a server makes a user_hash, in the languages of most websites.
EXAMPLES: tuple[tuple[str, str], ...] = (
    ("Python", 'hmac.new(SECRET.encode(), str(user.id).encode(), "sha256").hexdigest()'),
    ("Ruby", 'OpenSSL::HMAC.hexdigest("sha256", SECRET, user.id.to_s)'),
    ("PHP", 'hash_hmac("sha256", (string) $user->id, $secret)'),
    ("Node", 'crypto.createHmac("sha256", SECRET).update(String(user.id)).digest("hex")'),
)

View = Callable[[Any, HttpRequest], HttpResponse]


def by_post(permission: str) -> Callable[[View], View]:
    """Have something done by POST alone, and only for who may."""

    def guarded(view: View) -> View:
        @wraps(view)
        def answered(admin: Any, request: HttpRequest, **named: Any) -> HttpResponse:
            if request.method != "POST":
                return not_done(request, reverse(PAGE))
            if not request.user.has_perm(permission):
                raise PermissionDenied
            return view(admin, request, **named)

        return answered

    return guarded


class TokenForm(forms.Form):
    """What a new token is for."""

    name = forms.CharField(
        label="Name", max_length=150, widget=forms.TextInput({"class": "ob-input", "placeholder": "The shop"})
    )

    def clean_name(self) -> str:
        """Refuse a second of one name: nobody could tell which of them to revoke."""
        name = str(self.cleaned_data["name"])
        if Integration.objects.filter(name__iexact=name).exists():
            raise ValidationError(f"There is a token named “{name}”. Choose another name, or revoke that one first.")
        return name


class OriginForm(forms.Form):
    """A website the messenger may run on."""

    origin = forms.CharField(
        label="Website",
        max_length=origins.MAX_HOST_LENGTH,
        widget=forms.TextInput(
            {"class": "ob-input", "placeholder": "https://www.example.com", "inputmode": "url", "spellcheck": "false"}
        ),
    )

    def clean_origin(self) -> str:
        """Read it as browsers send it."""
        try:
            return origins.parse_origin(str(self.cleaned_data["origin"]))
        except origins.NotAnOrigin as wrong:
            raise ValidationError(str(wrong)) from wrong


class IntegrationAdmin(ToldAdmin):
    """API tokens, and with them all that connects a product: one page in place of a list."""

    fields = ("name", "token_key", "created", "last_used_at")
    readonly_fields = ("token_key", "created", "last_used_at")
    own_pages = (
        ("make-token/", "make_token"),
        ("show-secret/", "show_secret"),
        ("change-secret/", "change_secret"),
        ("require-hash/", "require_hash"),
        ("add-origin/", "add_origin"),
        ("remove-origin/", "remove_origin"),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A token is made, and shown, on the one page."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self.show(request)

    def delete_model(self, request: HttpRequest, obj: Integration) -> None:
        """Revoke a token: what calls with it is turned away from now on."""
        obj.revoke()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Integration]) -> None:
        """Revoke several."""
        for integration in queryset:
            integration.revoke()

    @by_post("audiences.add_integration")
    def make_token(self, request: HttpRequest) -> HttpResponse:
        """Make a token, and show it this once: the answer alone has it."""
        form = TokenForm(request.POST)
        if not form.is_valid():
            return self.show(request, token_form=form, status=400)
        with transaction.atomic():
            made, token = Integration.issue(name=form.cleaned_data["name"])
            self.log_addition(request, made, "Made the token")
        return self.show(request, made=made, token=token)

    @by_post(CHANGE_WORKSPACE)
    def show_secret(self, request: HttpRequest) -> HttpResponse:
        """Show the identity secret, which is in the log."""
        workspace = Workspace.current()
        self.note(request, workspace, "Looked at the identity secret")
        return self.show(request, secret=workspace.identity_secret)

    @by_post(CHANGE_WORKSPACE)
    def change_secret(self, request: HttpRequest) -> HttpResponse:
        """Make another identity secret, and show it; what was made with the old one no longer proves anything."""
        with changing() as workspace:
            workspace.identity_secret = new_secret()
            self.note(request, workspace, "Changed the identity secret")
        messages.success(request, "The identity secret is another one. Put it on your server now.")
        return self.show(request, secret=workspace.identity_secret)

    @by_post(CHANGE_WORKSPACE)
    def require_hash(self, request: HttpRequest) -> HttpResponse:
        """Switch identity verification on or off."""
        wanted = request.POST.get("on") == "1"
        with changing() as workspace:
            if workspace.require_user_hash != wanted:
                workspace.require_user_hash = wanted
                said = from_to("Identity verification", *(("off", "on") if wanted else ("on", "off")))
                self.note(request, workspace, said)
        return back("messenger")

    @by_post(CHANGE_WORKSPACE)
    def add_origin(self, request: HttpRequest) -> HttpResponse:
        """Let the messenger run on one more website; again is no harm."""
        form = OriginForm(request.POST)
        if not form.is_valid():
            return self.show(request, origin_form=form, status=400)
        origin = form.cleaned_data["origin"]
        with changing() as workspace:
            if origin not in registered_origins(workspace):
                if len(workspace.allowed_origins) >= MOST_ORIGINS:
                    form.add_error("origin", f"There are {MOST_ORIGINS} already. Remove one first.")
                    return self.show(request, origin_form=form, status=400)
                workspace.allowed_origins = [*workspace.allowed_origins, origin]
                self.note(request, workspace, f"Let the messenger run on {origin}")
        messages.success(request, f"The messenger may run on {origin}.")
        return back("messenger")

    @by_post(CHANGE_WORKSPACE)
    def remove_origin(self, request: HttpRequest) -> HttpResponse:
        """Have the messenger no longer run on a website."""
        gone = request.POST.get("origin", "")
        with changing() as workspace:
            kept = [origin for origin in workspace.allowed_origins if origin != gone]
            if len(kept) < len(workspace.allowed_origins):
                workspace.allowed_origins = kept
                self.note(request, workspace, f"No longer let the messenger run on {gone}")
                messages.success(request, f"The messenger no longer runs on {gone}.")
        return back("messenger")

    def show(self, request: HttpRequest, *, status: int = 200, **shown: Any) -> HttpResponse:
        """Draw the page, with what has just been made or was typed wrong."""
        workspace, address = Workspace.current(), settings.PUBLIC_URL
        return self.page(
            request,
            "outbound/integration.html",
            title="Integration",
            status=status,
            **{
                "token_form": TokenForm(),
                "origin_form": OriginForm(),
                "workspace": workspace,
                "address": address,
                "tokens": Integration.objects.order_by("name", "pk"),
                "subscriptions": subscriptions(),
                "for_users": script.snippet(address=address),
                "for_visitors": script.snippet(address=address, settings_of=FOR_VISITORS),
                "policy": f"script-src {address}; connect-src {address}; img-src {address}",
                "examples": EXAMPLES,
                "inbound_domain": settings.INBOUND_DOMAIN,
                "is_posted_to": bool(settings.WEBHOOK_SECRET),
                "posted_to": posted_to(address),
                **shown,
            },
        )


@contextmanager
def changing() -> Iterator[Workspace]:
    """The workspace, locked for the length of the block and then saved; two teammates take turns."""
    Workspace.current()
    with transaction.atomic():
        workspace = Workspace.objects.select_for_update(no_key=True).get()
        yield workspace
        workspace.save(update_fields=["identity_secret", "require_user_hash", "allowed_origins"])
    origins.clear_origins_cache()


def posted_to(address: str) -> list[tuple[str, str]]:
    """Where a mail provider posts what comes back; the secret in it is for who set it to fill in."""
    scheme, _, host = address.partition("://")
    backend = settings.EMAIL_BACKEND.split(".")
    provider = backend[2] if backend[0] == "anymail" else "postmark"
    here = f"{scheme}://user:password@{host}/webhooks/anymail/{provider}"
    return [("Replies", f"{here}/inbound/"), ("Bounces, complaints", f"{here}/tracking/")]


def registered_origins(workspace: Workspace) -> set[str]:
    """The websites there are, read alike however they were once written down."""
    return {str(origin).strip().rstrip("/").lower() for origin in workspace.allowed_origins}


def subscriptions() -> QuerySet[Subscription]:
    """Subscriptions, with when each was last told anything."""
    told = Notification.objects.filter(subscription=OuterRef("pk"), state=NotificationState.DELIVERED)
    return Subscription.objects.annotate(told_at=Subquery(told.order_by("-pk").values("settled_at")[:1])).order_by("pk")


def back(part: str) -> HttpResponse:
    """To the page, where its part begins."""
    return HttpResponseRedirect(f"{reverse(PAGE)}#{part}")
