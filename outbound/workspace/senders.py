"""Senders: the names and addresses that messages are sent from."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from unfold.decorators import display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from delivery.monitoring import domain_checks
from messaging.models import Sender, SendingDomain
from messaging.models.sending_domain import Verdict, is_reserved, join_texts
from outbound.console import audit
from outbound.console.admin import answer_without_button, column, teammate
from outbound.edits.admin import ChangeLogAdmin

DOMAINS = reverse_lazy("admin:sender_domains")
TONES: dict[str, str] = {
    Verdict.FINE: "good",
    Verdict.WARNING: "warning",
    Verdict.REJECTED: "bad",
    Verdict.UNANSWERED: "warning",
    Verdict.UNKNOWN: "plain",
}
LOG_SHOWN = 5


def tabs(active: str) -> list[dict[str, Any]]:
    """Return the tabs of senders and their domains."""
    pages = {"list": ("Senders", reverse("admin:messaging_sender_changelist")), "domains": ("Domains", str(DOMAINS))}
    return [{"label": label, "link": link, "active": name == active} for name, (label, link) in pages.items()]


def log_of(domain: SendingDomain) -> list[LogEntry]:
    """Return the newest log entries of a domain."""
    rows = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(SendingDomain), object_id=domain.pk)
    return list(rows.select_related("user").order_by("-action_time", "-pk")[:LOG_SHOWN])


def staff_users() -> QuerySet[User]:
    return User.objects.filter(is_staff=True).order_by("first_name", "username")


class SelectorForm(forms.ModelForm):
    """The DKIM selector of a domain."""

    class Meta:
        model = SendingDomain
        fields = ("dkim_selector",)
        widgets = {"dkim_selector": forms.TextInput({"class": "ob-input", "spellcheck": "false"})}


class SenderAdmin(ChangeLogAdmin):
    """The list of senders, their form, and the page of their domains."""

    list_before_template = "outbound/workspace/sender_tabs.html"
    own_pages = (
        ("domains/", "domains"),
        ("domains/<str:name>/check/", "check_domain"),
        ("domains/<str:name>/allow/", "allow_domain"),
    )
    list_display = ("name", "address", "replies_to", "owner", "shared_with")
    address = column("email", called="Email")
    replies_to = column("reply_to", called="Replies go to")
    owner = column("teammate", called="Teammate")
    nothing_yet = "A sender is the name and address that a message is sent from. Add one before you write a message."
    search_fields = ("name", "email")
    ordering = ("name",)
    list_select_related = ("teammate",)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer teammates only: the user of an integration cannot own a sender."""
        return super().formfield_for_foreignkey(db_field, request, queryset=staff_users(), **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs |= {"queryset": staff_users(), "widget": UnfoldAdminCheckboxSelectMultipleWidget()}
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Sender]:
        return super().get_queryset(request).prefetch_related("users")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, {**(extra_context or {}), "tabs": tabs("list")})

    def domains(self, request: HttpRequest) -> HttpResponse:
        """Show what the domains of the senders publish, and what is missing."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self.render_domains(request)

    def check_domain(self, request: HttpRequest, name: str) -> HttpResponse:
        """Store the DKIM selector and check the domain again."""
        if (refused := self.refuse_domain(request, name)) is not None:
            return refused
        known, _ = SendingDomain.objects.get_or_create(name=name)
        before = known.dkim_selector
        form = SelectorForm(request.POST, instance=known, prefix=name)
        if not form.is_valid():
            return self.render_domains(request, form, status=400)
        if form.cleaned_data["dkim_selector"] != before:
            SendingDomain.objects.filter(pk=name).update(dkim_selector=form.cleaned_data["dkim_selector"])
            audit.log_change(teammate(request), known, f"DKIM selector, was “{before}”")
        if domain_checks.check_domain(name, at=timezone.now()):
            messages.success(request, f"{name} was checked.")
        else:
            messages.info(request, f"{name} is being checked.")
        return HttpResponseRedirect(DOMAINS)

    def allow_domain(self, request: HttpRequest, name: str) -> HttpResponse:
        """Allow or refuse emails from a domain that providers reject. The log names the Admin and the findings."""
        if (refused := self.refuse_domain(request, name)) is not None:
            return refused
        with transaction.atomic():
            domain = SendingDomain.objects.select_for_update().filter(pk=name).first()
            if domain is None or not domain.is_rejected:
                messages.info(request, f"Nothing was changed: providers do not reject {name}.")
                return HttpResponseRedirect(DOMAINS)
            domain.allowed_at = None if domain.allowed_at else timezone.now()
            domain.save(update_fields=["allowed_at"])
            found = join_texts(domain.findings_with(Verdict.REJECTED))
            verb = "Allowed" if domain.allowed_at else "No longer allowed"
            audit.log_change(teammate(request), domain, f"{verb} to send although providers reject it: {found}")
        messages.success(request, f"Emails from {name} {'can' if domain.allowed_at else 'cannot'} go live.")
        return HttpResponseRedirect(DOMAINS)

    def refuse_domain(self, request: HttpRequest, name: str) -> HttpResponse | None:
        """Return the answer to a request that may not change this domain; None if it may."""
        if request.method != "POST":
            return answer_without_button(request, str(DOMAINS))
        if not self.has_change_permission(request):
            raise PermissionDenied
        if name not in domain_checks.sender_domains():
            raise Http404(f"No sender has an address at {name} that can be checked.")
        return None

    def render_domains(
        self, request: HttpRequest, wrong: SelectorForm | None = None, *, status: int = 200
    ) -> HttpResponse:
        """Render the page of domains, with a form that was refused."""
        known = SendingDomain.objects.in_bulk(domain_checks.sender_domains())
        shown = []
        for name in domain_checks.sender_domains():
            domain = known.get(name) or SendingDomain(name=name)
            form = wrong if wrong and wrong.instance.pk == name else SelectorForm(instance=domain, prefix=name)
            findings = [
                {**one, "tone": TONES[one["verdict"]], "label": Verdict(one["verdict"]).label}
                for one in domain.findings
            ]
            shown.append({"domain": domain, "form": form, "findings": findings, "log": log_of(domain)})
        reserved = sorted({sender.domain for sender in Sender.objects.only("email") if is_reserved(sender.domain)})
        return self.page(
            request,
            "outbound/workspace/domains.html",
            title="Domains of senders",
            tabs=tabs("domains"),
            shown=shown,
            reserved=reserved,
            can_change=self.has_change_permission(request),
            status=status,
        )

    @display(description="Can be used by")
    def shared_with(self, sender: Sender) -> str:
        users = [user.get_username() for user in sender.users.all()]
        if sender.teammate and sender.teammate.get_username() not in users:
            users.insert(0, sender.teammate.get_username())
        return ", ".join(users) if users else "Everyone"
