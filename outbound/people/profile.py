"""The profile of a customer: attributes, messages, conversations and events, and the actions on a customer."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import F
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format

from audiences import intake
from audiences.attributes import COMPANY_CUSTOM, CUSTOM, DETAILS
from audiences.models import Company, CustomAttribute, Customer, Suppression, SuppressionReason, Tag
from audiences.rules import Kind
from audiences.transactions import retried
from delivery import rendering
from delivery.customers import erase as customer_erase
from delivery.customers import export as customer_export
from delivery.models import Conversation, DeliveryRecord
from delivery.sending.suppression import lock_customers_with_address
from messaging import content
from outbound import roles
from outbound.console.admin import ConsoleAdmin, answer_without_button, teammate
from outbound.console.lookups import teammate_name
from outbound.console.timeouts import longer_statements
from outbound.messages.records import status_chip
from outbound.people import send_message as send_message_page
from outbound.people.opt_in import opt_in_card
from outbound.people.topics import topic_rows

RECORDS_SHOWN_MAX = 20
EVENTS_SHOWN_MAX = 50
TAGS_OFFERED_MAX = 500
CONVERSATIONS_SHOWN_MAX = 10
DEVICES_SHOWN_MAX = 30
EXCERPT_LENGTH = 160
# Staff type this word to confirm an erasure.
CONFIRM_ERASE = "erase"

CUSTOMER_FIELDS: tuple[tuple[str, str], ...] = (
    ("email", "Email"),
    ("phone", "Phone"),
    ("user_id", "User ID"),
    ("get_role_display", "Role"),
    ("owner", "Owner"),
    ("signed_up_at", "Signed up"),
    ("first_seen_at", "First seen"),
    ("last_seen_at", "Last seen"),
    ("last_contacted_at", "Last contacted"),
    ("last_heard_from_at", "Last heard from"),
    ("last_opened_email_at", "Last opened email"),
    ("last_clicked_email_at", "Last clicked link in email"),
    ("session_count", "Web sessions"),
    ("country", "Country"),
    ("city", "City"),
    ("timezone", "Time zone"),
    ("language", "Language"),
    ("browser", "Browser"),
    ("os", "OS"),
)
COMPANY_FIELDS: tuple[tuple[str, str], ...] = (
    ("company_id", "Company ID"),
    ("plan", "Plan"),
    ("monthly_spend", "Monthly spend"),
    ("size", "Size"),
    ("industry", "Industry"),
    ("website", "Website"),
    ("remote_created_at", "Created"),
    ("last_seen_at", "Last seen"),
    ("session_count", "Web sessions"),
)
# Per flag that blocks email: its reason, the notice, its button, and the log entry (behaviour 4.12).
CLEARABLE_FLAGS: dict[str, tuple[SuppressionReason, str, str, str]] = {
    "has_hard_bounced": (
        SuppressionReason.HARD_BOUNCE,
        "An email to this address bounced, so no more emails are sent to it.",
        "The address works now",
        "Cleared bounced",
    ),
    "marked_email_as_spam": (
        SuppressionReason.COMPLAINT,
        "An email to this address was marked as spam, so no more emails are sent to it.",
        "They want email again",
        "Cleared marked as spam",
    ),
    "unsubscribed_from_emails": (
        SuppressionReason.OPT_OUT,
        "This customer unsubscribed from emails. Messages to an audience skip them; a direct message still reaches"
        " them.",
        "They want email again",
        "Cleared unsubscribed",
    ),
}


PAGES = (
    ("<path:object_id>/message/", "send_message"),
    ("<path:object_id>/clear/<slug:flag>/", "clear"),
    ("<path:object_id>/tag/", "tag"),
    ("<path:object_id>/archive/", "archive"),
    ("<path:object_id>/export/", "export"),
    ("<path:object_id>/erase/", "erase"),
)


class ProfilePages(ConsoleAdmin):
    """The profile page and its actions."""

    own_pages: tuple[tuple[str, str], ...] = PAGES

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Customers come from the API, from visits and from imports."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Customer | None = None) -> bool:
        """Customers are archived or erased, not deleted."""
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        customer = self.get_object_or_refuse(request, object_id, to="view")
        records = customer.records.select_related("message__topic", "version", "company").order_by("-pk")
        can_change = self.has_change_permission(request, customer)
        return self.page(
            request,
            "outbound/people/profile.html",
            title=str(customer),
            original=customer,
            can_write=may_write(request),
            notices=notices(customer, can_change=can_change),
            facts=customer_facts(customer),
            attributes=custom_attributes(customer.attributes, scope="customer"),
            details=[(DETAILS[key][0], value) for key, value in customer.details.items() if key in DETAILS],
            companies=Company.objects.filter(memberships__customer=customer).order_by("name", "pk"),
            devices=devices(customer),
            tags=customer.tags.order_by("name"),
            topics=topic_rows(customer),
            opt_in=opt_in_card(customer),
            can_change=can_change,
            may_answer_requests=request.user.has_perm(roles.ANSWER_REQUESTS),
            sure=CONFIRM_ERASE,
            all_tags=Tag.objects.order_by("name").values_list("name", flat=True)[:TAGS_OFFERED_MAX]
            if can_change
            else [],
            events=customer.event_summaries.order_by("-last_at")[:EVENTS_SHOWN_MAX],
            timeline=timeline(customer),
            records=[as_row(record) for record in records[:RECORDS_SHOWN_MAX]],
            records_count=records.count(),
            conversations=conversations(customer),
            log=self.history_of(customer),
        )

    def send_message(self, request: HttpRequest, object_id: str) -> HttpResponse:
        customer = self.get_object_or_refuse(request, object_id, to="view")
        return send_message_page.message_page(self, request, customer)

    def clear(self, request: HttpRequest, object_id: str, flag: str) -> HttpResponse:
        """Clear a flag that blocks email: a hard bounce or a spam complaint."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:audiences_customer_change", args=[object_id]))
        customer = self.get_object_or_refuse(request, object_id)
        if flag not in CLEARABLE_FLAGS:
            raise Http404("This flag does not exist.")
        at = timezone.now()

        @retried
        def clear_flag() -> None:
            reason, _, _, logged = CLEARABLE_FLAGS[flag]
            if customer.email:
                lock_customers_with_address(customer.email)
                entries = Suppression.objects.of_address(customer.email).filter(reason=reason)
                entries.lift(at=at, by=teammate(request).pk)
            moments = {"unsubscribed_by_customer_at": None} if reason is SuppressionReason.OPT_OUT else {}
            Customer.objects.filter(pk=customer.pk).update(**{flag: False}, **moments, updated_at=at)
            if getattr(customer, flag):
                self.note(request, customer, logged)

        clear_flag()
        messages.success(request, f"{customer} can get email again.")
        return HttpResponseRedirect(reverse("admin:audiences_customer_change", args=[customer.pk]))

    def tag(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Add a tag, or remove the tag whose ID is in `off`."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:audiences_customer_change", args=[object_id]))
        customer = self.get_object_or_refuse(request, object_id)
        at = timezone.now()

        @retried
        def change_tag() -> None:
            if off := request.POST.get("off", ""):
                label = get_object_or_404(customer.tags, pk=off if off.isdecimal() else 0)
                intake.remove_tag(label, [customer], at=at)
                self.note(request, customer, f"Removed the tag “{label}”")
            else:
                label = intake.find_or_make_tag(request.POST.get("tag", ""), at=at)
                intake.add_tag(label, [customer], at=at)
                self.note(request, customer, f"Added the tag “{label}”")

        try:
            change_tag()
        except intake.Refused as no:
            messages.error(request, str(no))
        return HttpResponseRedirect(reverse("admin:audiences_customer_change", args=[customer.pk]))

    def archive(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Archive the customer, or restore them if `back` is set."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:audiences_customer_change", args=[object_id]))
        customer = self.get_object_or_refuse(request, object_id)
        at = timezone.now()

        @retried
        def carry_out() -> str:
            if request.POST.get("back"):
                Customer.objects.filter(pk=customer.pk).update(archived_at=None, updated_at=at)
                self.note(request, customer, "Restored from the archive")
                return f"{customer} is restored and again part of every audience they match."
            intake.archive_customer(customer, at=at)
            self.note(request, customer, "Archived")
            return f"{customer} is archived and receives no more messages."

        messages.success(request, carry_out())
        return HttpResponseRedirect(reverse("admin:audiences_customer_change", args=[customer.pk]))

    def customer_of_request(self, request: HttpRequest, object_id: str) -> Customer:
        """Return the customer if the teammate may answer requests under data protection law."""
        if not request.user.has_perm(roles.ANSWER_REQUESTS):
            raise PermissionDenied
        customer: Customer = self.get_object_or_refuse(request, object_id, to="view")
        return customer

    @longer_statements()
    def export(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Return all stored data of the customer as a file."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:audiences_customer_change", args=[object_id]))
        customer = self.customer_of_request(request, object_id)
        at = timezone.now()
        self.note(request, customer, "Exported all data of the customer")
        file, ending = customer_export.export(customer, at=at)
        return FileResponse(file, as_attachment=True, filename=f"customer-{customer.pk}-{at:%Y-%m-%d}.{ending}")

    @longer_statements()
    def erase(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Erase the personal data of the customer if the teammate typed the confirmation."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:audiences_customer_change", args=[object_id]))
        customer = self.customer_of_request(request, object_id)

        @retried
        def erase_and_log() -> None:
            customer_erase.erase(customer, at=timezone.now())
            self.note(request, customer, "Erased")

        if request.POST.get("sure", "").strip().lower() != CONFIRM_ERASE:
            messages.error(request, f"Nothing was erased. Type “{CONFIRM_ERASE}” to erase this customer permanently.")
        else:
            erase_and_log()
            messages.success(
                request,
                "The customer is permanently erased. Their delivery records stay, without personal data.",
            )
        return HttpResponseRedirect(reverse("admin:audiences_customer_change", args=[customer.pk]))


def may_write(request: HttpRequest) -> bool:
    return request.user.has_perm(roles.WRITE_TO_ONE)


def notices(customer: Customer, *, can_change: bool) -> list[dict[str, Any]]:
    """Return the notices at the top: what blocks messages, with the button that removes the obstacle."""
    entries = {entry.reason: entry for entry in Suppression.objects.active().of_address(customer.email)}
    found: list[dict[str, Any]] = [
        {
            "words": words,
            "flag": flag if can_change else "",
            "button": button,
            "tone": "warning" if reason is SuppressionReason.OPT_OUT else "bad",
            "entry": entries.get(reason),
        }
        for flag, (reason, words, button, _) in CLEARABLE_FLAGS.items()
        if getattr(customer, flag)
    ]
    if customer.archived_at:
        found.append(
            {
                "words": "This customer is archived and receives no messages.",
                "back": can_change,
                "flag": "",
                "button": "Restore",
                "tone": "plain",
            }
        )
    return found


def customer_facts(customer: Customer) -> list[tuple[str, Any]]:
    return field_values(customer, CUSTOMER_FIELDS)


def company_facts(company: Company) -> list[tuple[str, Any]]:
    return field_values(company, COMPANY_FIELDS)


def field_values(row: Any, table: tuple[tuple[str, str], ...]) -> list[tuple[str, Any]]:
    """Return the labels and values of a table of fields. Fields without a value are left out."""
    found = []
    for name, label in table:
        value = getattr(row, name)
        value = value() if callable(value) else value
        if name == "owner" and value:
            value = teammate_name(value)
        if name == "email" and value and row.email_is_said:
            value = f"{value} (not proved: sent by a browser without a user_hash)"
        if value not in (None, ""):
            found.append((label, value))
    return found


def devices(customer: Customer) -> list[tuple[str, str]]:
    """Describe the devices for push notifications, active ones first."""
    found = []
    for device in customer.devices.order_by(F("retired_at").asc(nulls_first=True), "-pk")[:DEVICES_SHOWN_MAX]:
        state, at = (
            ("Inactive", device.retired_at) if device.retired_at else ("Receives push notifications", device.created_at)
        )
        found.append((device.get_platform_display(), f"{state} since {date_format(timezone.localtime(at), 'j M Y')}"))
    return found


def custom_attributes(values: dict[str, Any], *, scope: str) -> list[tuple[str, Any]]:
    """Return custom attributes for display by their display names, sorted by key."""
    catalogue = CustomAttribute.objects.catalogue()
    kinds, prefix = (catalogue.customer, CUSTOM) if scope == "customer" else (catalogue.company, COMPANY_CUSTOM)
    return [
        (catalogue.labels.get(f"{prefix}{key}") or key, display_value(values[key], kinds.get(key)))
        for key in sorted(values)
    ]


def display_value(value: Any, kind: Kind | None) -> Any:
    """Convert an attribute for display: dates are stored as seconds."""
    if kind is Kind.DATE and isinstance(value, int | float):
        try:
            return timezone.datetime.fromtimestamp(value, tz=timezone.get_current_timezone())  # type: ignore[attr-defined]
        except (ValueError, OverflowError, OSError):
            return value
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return value


def as_row(record: DeliveryRecord) -> dict[str, Any]:
    """Return the template context of a delivery record, with the beginning of its rendered text."""
    try:
        copy = rendering.render_sent_copy(record)
    except content.ContentError:
        copy = None
    text = " ".join(copy.text.split()) if copy else ""
    return {
        "record": record,
        "chip": status_chip(record),
        "subject": copy.subject if copy else "",
        "excerpt": text if len(text) <= EXCERPT_LENGTH else f"{text[:EXCERPT_LENGTH].rstrip()}…",
        "is_long": len(text) > EXCERPT_LENGTH or bool(copy and "<img" in copy.html),
    }


def timeline(customer: Customer, *, limit: int = EVENTS_SHOWN_MAX) -> list[dict[str, Any]]:
    """Return the latest events with their metadata."""
    return [
        {
            "name": event.name,
            "at": event.happened_at,
            "facts": ", ".join(f"{key}: {display_metadata(value)}" for key, value in sorted(event.metadata.items())),
        }
        for event in customer.events.order_by("-happened_at", "-pk")[:limit]
    ]


def display_metadata(value: Any) -> str:
    """Format one metadata value. Prices and links are objects."""
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values())
    return str(display_value(value, None))


def conversations(customer: Customer) -> list[Conversation]:
    rows = Conversation.objects.of_customer(customer)
    rows = rows.select_related("record__message").prefetch_related("parts__teammate")
    return list(rows.order_by("-updated_at")[:CONVERSATIONS_SHOWN_MAX])
