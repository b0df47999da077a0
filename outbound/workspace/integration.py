"""Integration: API tokens, the messenger, webhooks and replies by email, on one page for engineers."""

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
from django.shortcuts import get_object_or_404
from django.urls import reverse

from audiences.models import Integration, Notification, NotificationState, Subscription, Workspace
from audiences.models.workspace import TokenRight, new_secret
from delivery.messenger import origins, script
from outbound.console.admin import answer_without_button, teammate
from outbound.console.change_message import change_text
from outbound.edits.admin import ChangeLogAdmin

PAGE = "admin:audiences_integration_changelist"
CHANGE_WORKSPACE = "audiences.change_workspace"
ALLOWED_ORIGINS_MAX = 100
FOR_VISITORS = "{}"
# Code for a server that computes a user_hash.
EXAMPLES: tuple[tuple[str, str], ...] = (
    ("Python", 'hmac.new(SECRET.encode(), str(user.id).encode(), "sha256").hexdigest()'),
    ("Ruby", 'OpenSSL::HMAC.hexdigest("sha256", SECRET, user.id.to_s)'),
    ("PHP", 'hash_hmac("sha256", (string) $user->id, $secret)'),
    ("Node", 'crypto.createHmac("sha256", SECRET).update(String(user.id)).digest("hex")'),
)

View = Callable[..., HttpResponse]


def by_post(permission: str) -> Callable[[View], View]:
    """Decorate a view to require POST and a permission."""

    def guarded(view: View) -> View:
        @wraps(view)
        def answered(admin: Any, request: HttpRequest, **named: Any) -> HttpResponse:
            if request.method != "POST":
                return answer_without_button(request, reverse(PAGE))
            if not request.user.has_perm(permission):
                raise PermissionDenied
            return view(admin, request, **named)

        return answered

    return guarded


RIGHTS: dict[TokenRight, str] = {
    TokenRight.READ: "Read data: customers, companies, conversations, messages and their counts",
    TokenRight.WRITE: "Write data: create, change and delete it, and manage conversations and webhooks",
    TokenRight.SEND: "Send messages and replies to customers, and write, launch, pause or stop messages to audiences",
}


class RightsForm(forms.Form):
    """The rights of a token."""

    rights = forms.MultipleChoiceField(
        label="It may be used to",
        choices=[(right.value, words) for right, words in RIGHTS.items()],
        initial=TokenRight.values,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one right."},
    )


class TokenForm(RightsForm):
    """A new token."""

    name = forms.CharField(
        label="Name", max_length=150, widget=forms.TextInput({"class": "ob-input", "placeholder": "The shop"})
    )

    def clean_name(self) -> str:
        """Names are unique, so that staff revoke the right token."""
        name = str(self.cleaned_data["name"])
        if Integration.objects.filter(name__iexact=name).exists():
            raise ValidationError(
                f"A token named “{name}” already exists. Choose another name, or revoke that token first."
            )
        return name


class OriginForm(forms.Form):
    """A website that may load the messenger."""

    origin = forms.CharField(
        label="Website",
        max_length=origins.MAX_HOST_LENGTH,
        widget=forms.TextInput(
            {"class": "ob-input", "placeholder": "https://www.example.com", "inputmode": "url", "spellcheck": "false"}
        ),
    )

    def clean_origin(self) -> str:
        """Parse the origin to the form that browsers send."""
        try:
            return origins.parse_origin(str(self.cleaned_data["origin"]))
        except origins.NotAnOrigin as wrong:
            raise ValidationError(str(wrong)) from wrong


class IntegrationAdmin(ChangeLogAdmin):
    """The integration page, in place of a list of API tokens."""

    fields = ("name", "token_key", "created", "last_used_at")
    readonly_fields = ("token_key", "created", "last_used_at")
    delete_confirmation_template = "outbound/workspace/revoke_token.html"
    own_pages = (
        ("make-token/", "make_token"),
        ("<path:object_id>/change-rights/", "change_rights"),
        ("show-secret/", "show_secret"),
        ("change-secret/", "change_secret"),
        ("require-hash/", "require_hash"),
        ("add-origin/", "add_origin"),
        ("remove-origin/", "remove_origin"),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tokens are created on the integration page, which shows them once."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self.render_page(request)

    def delete_model(self, request: HttpRequest, obj: Integration) -> None:
        obj.revoke()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Integration]) -> None:
        for integration in queryset:
            integration.revoke()

    @by_post("audiences.add_integration")
    def make_token(self, request: HttpRequest) -> HttpResponse:
        """Create a token and show it once."""
        form = TokenForm(request.POST)
        if not form.is_valid():
            return self.render_page(request, token_form=form, status=400)
        with transaction.atomic():
            made, token = Integration.issue(**form.cleaned_data, teammate=teammate(request))
            self.log_addition(request, made, f"Created the token. Rights: {made.rights_text}")
        return self.render_page(request, made=made, token=token)

    @by_post("audiences.change_integration")
    def change_rights(self, request: HttpRequest, *, object_id: str) -> HttpResponse:
        """Change what a token may be used to, from its next request on."""
        form = RightsForm(request.POST)
        if not form.is_valid():
            messages.error(request, f"{form.errors['rights'][0]} To end a token, revoke it.")
            return back_to_section("tokens")
        found = self.get_object_or_refuse(request, object_id)
        with transaction.atomic():
            token = get_object_or_404(Integration.objects.select_for_update(no_key=True), pk=found.pk)
            before, token.rights = token.rights_text, form.cleaned_data["rights"]
            if token.rights_text != before:
                token.save(update_fields=["rights"])
                self.note(request, token, change_text("Rights", before, token.rights_text))
                messages.success(request, f"The rights of the token “{token}” have been changed.")
        return back_to_section("tokens")

    @by_post(CHANGE_WORKSPACE)
    def show_secret(self, request: HttpRequest) -> HttpResponse:
        """Show the identity secret. The log records it."""
        workspace = Workspace.current()
        self.note(request, workspace, "Viewed the identity secret")
        return self.render_page(request, secret=workspace.identity_secret)

    @by_post(CHANGE_WORKSPACE)
    def change_secret(self, request: HttpRequest) -> HttpResponse:
        """Replace the identity secret and show it. A user_hash from the old one is no longer valid."""
        with locked_workspace() as workspace:
            workspace.identity_secret = new_secret()
            self.note(request, workspace, "Changed the identity secret")
        messages.success(request, "The identity secret has been changed. Update your server now.")
        return self.render_page(request, secret=workspace.identity_secret)

    @by_post(CHANGE_WORKSPACE)
    def require_hash(self, request: HttpRequest) -> HttpResponse:
        wanted = request.POST.get("on") == "1"
        with locked_workspace() as workspace:
            if workspace.require_user_hash != wanted:
                workspace.require_user_hash = wanted
                change = change_text("Identity verification", *(("off", "on") if wanted else ("on", "off")))
                self.note(request, workspace, change)
        return back_to_section("messenger")

    @by_post(CHANGE_WORKSPACE)
    def add_origin(self, request: HttpRequest) -> HttpResponse:
        """Allow one more website. Idempotent."""
        form = OriginForm(request.POST)
        if not form.is_valid():
            return self.render_page(request, origin_form=form, status=400)
        origin = form.cleaned_data["origin"]
        with locked_workspace() as workspace:
            if origin not in registered_origins(workspace):
                if len(workspace.allowed_origins) >= ALLOWED_ORIGINS_MAX:
                    form.add_error("origin", f"There are already {ALLOWED_ORIGINS_MAX} websites. Remove one first.")
                    return self.render_page(request, origin_form=form, status=400)
                workspace.allowed_origins = [*workspace.allowed_origins, origin]
                self.note(request, workspace, f"Allowed the messenger on {origin}")
        messages.success(request, f"The messenger is now allowed on {origin}.")
        return back_to_section("messenger")

    @by_post(CHANGE_WORKSPACE)
    def remove_origin(self, request: HttpRequest) -> HttpResponse:
        gone = request.POST.get("origin", "")
        with locked_workspace() as workspace:
            kept = [origin for origin in workspace.allowed_origins if origin != gone]
            if len(kept) < len(workspace.allowed_origins):
                workspace.allowed_origins = kept
                self.note(request, workspace, f"Removed the messenger from {gone}")
                messages.success(request, f"The messenger is no longer allowed on {gone}.")
        return back_to_section("messenger")

    def render_page(self, request: HttpRequest, *, status: int = 200, **shown: Any) -> HttpResponse:
        """Render the page, with a new token or an invalid form in `shown`."""
        workspace, address = Workspace.current(), settings.PUBLIC_URL
        return self.page(
            request,
            "outbound/workspace/integration.html",
            title="Integration",
            status=status,
            **{
                "token_form": TokenForm(),
                "origin_form": OriginForm(),
                "workspace": workspace,
                "address": address,
                "tokens": [
                    (token, RightsForm(initial={"rights": token.rights}, auto_id=f"id_%s_{token.pk}"))
                    for token in Integration.objects.order_by("name", "pk")
                ],
                "subscriptions": webhooks_with_last_delivery(),
                "for_users": script.snippet(address=address),
                "for_visitors": script.snippet(address=address, settings_of=FOR_VISITORS),
                "policy": f"script-src {address}; connect-src {address}; img-src {address}",
                "examples": EXAMPLES,
                "inbound_domain": settings.INBOUND_DOMAIN,
                "is_posted_to": bool(settings.WEBHOOK_SECRET),
                "posted_to": provider_webhook_urls(address),
                **shown,
            },
        )


@contextmanager
def locked_workspace() -> Iterator[Workspace]:
    """Lock the workspace for the block, then save it."""
    Workspace.current()
    with transaction.atomic():
        workspace = Workspace.objects.select_for_update(no_key=True).get()
        yield workspace
        workspace.save(update_fields=["identity_secret", "require_user_hash", "allowed_origins"])
    origins.clear_origins_cache()


def provider_webhook_urls(address: str) -> list[tuple[str, str]]:
    """Return the URLs for the webhooks of the email provider, without the secret."""
    scheme, _, host = address.partition("://")
    backend = settings.EMAIL_BACKEND.split(".")
    provider = backend[2] if backend[0] == "anymail" else "postmark"
    here = f"{scheme}://user:password@{host}/webhooks/anymail/{provider}"
    return [("Replies", f"{here}/inbound/"), ("Bounces and complaints", f"{here}/tracking/")]


def registered_origins(workspace: Workspace) -> set[str]:
    """Return the allowed websites in normalised form."""
    return {str(origin).strip().rstrip("/").lower() for origin in workspace.allowed_origins}


def webhooks_with_last_delivery() -> QuerySet[Subscription]:
    """Return the webhooks, each with the time of its last delivery."""
    delivered = Notification.objects.filter(subscription=OuterRef("pk"), state=NotificationState.DELIVERED)
    return Subscription.objects.annotate(
        notified_at=Subquery(delivered.order_by("-pk").values("settled_at")[:1])
    ).order_by("pk")


def back_to_section(part: str) -> HttpResponse:
    """Redirect to a section of the page."""
    return HttpResponseRedirect(f"{reverse(PAGE)}#{part}")
