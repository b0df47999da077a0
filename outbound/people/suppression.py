"""The suppression list: addresses that get no email, with the reason, the origin and the button that lifts an entry."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from audiences.intake import Refused
from audiences.intake.identity_resolution import comparable_address, read_email
from audiences.models import Customer, Suppression, SuppressionReason, SuppressionSource
from audiences.transactions import retried
from delivery.sending.suppression import lock_customers_with_address
from outbound.console.admin import ReadOnlyAdmin, answer_without_button, column, teammate
from outbound.console.formatting import chip

SHOWN_CUSTOMERS = 20
# The button that lifts an entry, and its log entry, by reason.
LIFTING: dict[str, tuple[str, str]] = {
    SuppressionReason.OPT_OUT: ("They want email again", "Lifted the opt-out of {}"),
    SuppressionReason.HARD_BOUNCE: ("The address works now", "Lifted the bounce of {}"),
    SuppressionReason.COMPLAINT: ("They want email again", "Lifted the spam complaint of {}"),
}


class AddressForm(forms.Form):
    """One address for the list."""

    address = forms.CharField(
        label="Email address",
        max_length=320,
        error_messages={"required": "Enter an email address."},
        widget=forms.EmailInput({"class": "ob-input", "autocomplete": "off"}),
    )
    reason = forms.ChoiceField(
        choices=SuppressionReason,
        initial=SuppressionReason.OPT_OUT,
        widget=forms.Select({"class": "ob-input"}),
    )
    detail = forms.CharField(
        label="Note",
        required=False,
        max_length=200,
        help_text="For example, how they asked.",
        widget=forms.TextInput({"class": "ob-input"}),
    )

    def clean_address(self) -> str:
        try:
            address = read_email(self.cleaned_data["address"], "address")
        except Refused as wrong:
            raise forms.ValidationError(str(wrong)) from wrong
        if address is None:
            raise forms.ValidationError("Enter an email address.")
        return address


class ActiveOrLifted(DropdownFilter):
    """Filter entries by whether they hold or were lifted."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return (("active", "Active"), ("lifted", "Lifted"))

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() not in ("active", "lifted"):
            return queryset
        return queryset.filter(lifted_at__isnull=self.value() == "active")


class SuppressionAdmin(ReadOnlyAdmin):
    """Suppressed addresses. An entry is lifted, not changed or deleted."""

    list_display = ("who", "why", "where_from", "since", "state")
    since = column("created_at", called="Since")
    list_filter = (
        ActiveOrLifted,
        ("reason", ChoicesDropdownFilter),
        ("source", ChoicesDropdownFilter),
    )
    search_fields = ("address",)
    search_help_text = "Search by address"
    ordering = ("-created_at", "-pk")
    actions = None
    nothing_yet = "An address is listed if its owner unsubscribes, if its mailbox is gone, or if you add or import it."
    list_before_template = "outbound/people/suppression_tools.html"
    own_pages = (("<int:key>/lift/", "lift"),)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("audiences.add_suppression")

    def may_lift(self, request: HttpRequest) -> bool:
        return request.user.has_perm("audiences.change_suppression")

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """Find by the whole address also its other spellings, and the entry of an erased person."""
        rows, is_distinct = super().get_search_results(request, queryset, search_term)
        if "@" in search_term and "\x00" not in search_term:
            found = queryset.of_address(comparable_address(search_term))
            rows = queryset.filter(pk__in=[*found.values_list("pk", flat=True)]) | rows
        return rows, is_distinct

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        can_import = request.user.has_perm("audiences.add_import")
        return super().changelist_view(request, {"can_import": can_import, **(extra_context or {})})

    @display(description="Address", ordering="address")
    def who(self, entry: Suppression) -> str:
        return entry.address or "Erased address"

    @display(description="Reason", ordering="reason")
    def why(self, entry: Suppression) -> str:
        return str(entry.get_reason_display())

    @display(description="From", ordering="source")
    def where_from(self, entry: Suppression) -> str:
        return entry.origin

    @display(description="State", ordering="lifted_at")
    def state(self, entry: Suppression) -> str:
        return chip("Lifted", "plain") if entry.lifted_at else chip("Active", "warning")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = AddressForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            entry = add_address(**form.cleaned_data, by=teammate(request).pk)
            if entry is None:
                form.add_error("address", "This address is already on the list for this reason.")
            else:
                self.note(request, entry, f"Added {entry.address}")
                messages.success(request, f"{entry.address} gets no more email.")
                return HttpResponseRedirect(reverse("admin:audiences_suppression_changelist"))
        return self.page(request, "outbound/people/suppression_add.html", title="Add an address", form=form)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        entry = self.get_object_or_refuse(request, object_id, to="view")
        if request.method == "POST":
            raise PermissionDenied
        customers = Customer.objects.with_address(entry.address) if entry.address else Customer.objects.none()
        return self.page(
            request,
            "outbound/people/suppression.html",
            title=entry.address or "Erased address",
            original=entry,
            customers=customers.order_by("pk")[:SHOWN_CUSTOMERS],
            button=LIFTING[entry.reason][0] if self.may_lift(request) and not entry.lifted_at else "",
            log=self.history_of(entry),
        )

    def lift(self, request: HttpRequest, key: int) -> HttpResponse:
        """Lift an entry, so that the address can get email again."""
        page = reverse("admin:audiences_suppression_change", args=[key])
        if request.method != "POST":
            return answer_without_button(request, page)
        if not self.may_lift(request):
            raise PermissionDenied
        entry = self.get_object_or_refuse(request, str(key), to="view")
        if lift_entry(self, request, entry):
            messages.success(request, f"{entry.address or 'The address'} can get email again.")
        else:
            messages.info(request, "This entry was lifted before.")
        return HttpResponseRedirect(page)


@retried
def add_address(*, address: str, reason: str, detail: str, by: int) -> Suppression | None:
    """Add an address; return None if it is on the list for this reason."""
    rows = Suppression.objects.active().of_address(address).filter(reason=reason)
    if rows.exists():
        return None
    lock_customers_with_address(address)
    entry = Suppression(
        address=address,
        reason=reason,
        source=SuppressionSource.STAFF,
        detail=detail,
        added_by_id=by,
        created_at=timezone.now(),
    )
    Suppression.objects.bulk_create([entry], ignore_conflicts=True)
    return rows.get()


@retried
def lift_entry(admin: ReadOnlyAdmin, request: HttpRequest, entry: Suppression) -> bool:
    """Lift an entry and log it. Return False if it was lifted before."""
    if entry.address:
        lock_customers_with_address(entry.address)
    if not Suppression.objects.filter(pk=entry.pk).lift(at=timezone.now(), by=teammate(request).pk):
        return False
    admin.note(request, entry, LIFTING[entry.reason][1].format(entry.address or "an erased address"))
    return True
