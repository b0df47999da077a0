"""One customer: everything known of them, everything they got, and Send a message at the top right."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import F
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
)
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format

from audiences import intake
from audiences.attributes import DETAILS
from audiences.models import Company, CustomAttribute, Customer, Tag
from audiences.rules import Kind
from audiences.transactions import retried
from delivery import rendering
from delivery.customers import erase as customer_erase
from delivery.customers import export as customer_export
from delivery.models import Conversation, DeliveryRecord
from messaging import content
from outbound import roles
from outbound.console.admin import ConsoleAdmin, not_done
from outbound.console.lookups import name_of
from outbound.console.timeouts import longer_statements
from outbound.messages.records import status_chip
from outbound.people import send_message as send_message_page

MOST_RECORDS = 20
MOST_EVENTS = 50
MOST_TAGS = 500
MOST_CONVERSATIONS = 10
MOST_DEVICES = 30
EXCERPT = 160
# What is typed to erase somebody.
SURE = "erase"

FACTS: tuple[tuple[str, str], ...] = (
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
COMPANY_FACTS: tuple[tuple[str, str], ...] = (
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
# What stands in the way of mail, in words, and the button that takes it away (behaviour 4.12).
CLEAR: dict[str, tuple[str, str, str]] = {
    "has_hard_bounced": (
        "Their email bounced, so no email is sent to them.",
        "The address works now",
        "Cleared bounced",
    ),
    "marked_email_as_spam": (
        "They marked an email as spam, so no email is sent to them.",
        "They want email again",
        "Cleared marked as spam",
    ),
}
UNSUBSCRIBED = (
    "They unsubscribed from emails. Messages to an audience leave them out; you can still write to them alone."
)


PAGES = (
    ("<path:object_id>/message/", "send_message"),
    ("<path:object_id>/clear/<slug:flag>/", "clear"),
    ("<path:object_id>/tag/", "tag"),
    ("<path:object_id>/archive/", "archive"),
    ("<path:object_id>/export/", "export"),
    ("<path:object_id>/erase/", "erase"),
)


class ProfilePages(ConsoleAdmin):
    """The pages of one customer."""

    own_pages: tuple[tuple[str, str], ...] = PAGES

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Customers come from the API, from visits and from imports."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Customer | None = None) -> bool:
        """Customers are archived or erased, never deleted."""
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The profile."""
        customer = self.found(request, object_id, to="view")
        records = customer.records.select_related("message", "version", "company").order_by("-pk")
        can_change = self.has_change_permission(request, customer)
        return self.page(
            request,
            "outbound/profile.html",
            title=str(customer),
            original=customer,
            can_write=may_write(request),
            notices=notices(customer, can_change=can_change),
            facts=facts(customer),
            attributes=custom(customer.attributes, scope="customer"),
            details=[(DETAILS[key][0], value) for key, value in customer.details.items() if key in DETAILS],
            companies=Company.objects.filter(memberships__customer=customer).order_by("name", "pk"),
            devices=devices(customer),
            tags=customer.tags.order_by("name"),
            can_change=can_change,
            may_answer_requests=request.user.has_perm(roles.ANSWER_REQUESTS),
            sure=SURE,
            all_tags=Tag.objects.order_by("name").values_list("name", flat=True)[:MOST_TAGS] if can_change else [],
            events=customer.event_summaries.order_by("-last_at")[:MOST_EVENTS],
            timeline=timeline(customer),
            records=[as_row(record) for record in records[:MOST_RECORDS]],
            records_count=records.count(),
            conversations=conversations(customer),
            log=self.history_of(customer),
        )

    def send_message(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The one-person composer."""
        customer = self.found(request, object_id, to="view")
        return send_message_page.write(self, request, customer)

    def clear(self, request: HttpRequest, object_id: str, flag: str) -> HttpResponse:
        """Clear what a bounce or a complaint left behind."""
        if request.method != "POST":
            return not_done(request, reverse("admin:audiences_customer_change", args=[object_id]))
        customer = self.found(request, object_id)
        if flag not in CLEAR:
            raise Http404("There is nothing of that name to clear.")
        at = timezone.now()

        @retried
        def clear_flag() -> None:
            cleared = Customer.objects.filter(pk=customer.pk, **{flag: True}).update(**{flag: False}, updated_at=at)
            if cleared:
                self.note(request, customer, CLEAR[flag][2])

        clear_flag()
        messages.success(request, f"{customer} can get email again.")
        return HttpResponseRedirect(reverse("admin:audiences_customer_change", args=[customer.pk]))

    def tag(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Put a tag on them, or take one off."""
        if request.method != "POST":
            return not_done(request, reverse("admin:audiences_customer_change", args=[object_id]))
        customer = self.found(request, object_id)
        at = timezone.now()

        @retried
        def put_on_or_take_off() -> None:
            if off := request.POST.get("off", ""):
                label = get_object_or_404(customer.tags, pk=off if off.isdecimal() else 0)
                intake.untag(label, [customer], at=at)
                self.note(request, customer, f"Took off the tag “{label}”")
            else:
                label = intake.find_or_make_tag(request.POST.get("tag", ""), at=at)
                intake.tag(label, [customer], at=at)
                self.note(request, customer, f"Put on the tag “{label}”")

        try:
            put_on_or_take_off()
        except intake.Refused as no:
            messages.error(request, str(no))
        return HttpResponseRedirect(reverse("admin:audiences_customer_change", args=[customer.pk]))

    def archive(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take them out of every audience at once, or bring them back."""
        if request.method != "POST":
            return not_done(request, reverse("admin:audiences_customer_change", args=[object_id]))
        customer = self.found(request, object_id)
        at = timezone.now()

        @retried
        def carry_out() -> str:
            if request.POST.get("back"):
                Customer.objects.filter(pk=customer.pk).update(archived_at=None, updated_at=at)
                self.note(request, customer, "Brought back from the archive")
                return f"{customer} is back, and in every audience they match."
            intake.archive(customer, at=at)
            self.note(request, customer, "Archived")
            return f"{customer} is archived: nothing reaches them."

        messages.success(request, carry_out())
        return HttpResponseRedirect(reverse("admin:audiences_customer_change", args=[customer.pk]))

    def asked_for(self, request: HttpRequest, object_id: str) -> Customer:
        """The customer, for whoever may answer what they ask for by law."""
        if not request.user.has_perm(roles.ANSWER_REQUESTS):
            raise PermissionDenied
        customer: Customer = self.found(request, object_id, to="view")
        return customer

    @longer_statements()
    def export(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """All that is kept of them, as a file."""
        if request.method != "POST":
            return not_done(request, reverse("admin:audiences_customer_change", args=[object_id]))
        customer = self.asked_for(request, object_id)
        at = timezone.now()
        self.note(request, customer, "Exported all that is kept of them")
        file, ending = customer_export.export(customer, at=at)
        return FileResponse(file, as_attachment=True, filename=f"customer-{customer.pk}-{at:%Y-%m-%d}.{ending}")

    @longer_statements()
    def erase(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Blank all that is personal, for good, once somebody has typed that they mean it."""
        if request.method != "POST":
            return not_done(request, reverse("admin:audiences_customer_change", args=[object_id]))
        customer = self.asked_for(request, object_id)

        @retried
        def erase_and_log() -> None:
            customer_erase.erase(customer, at=timezone.now())
            self.note(request, customer, "Erased")

        if request.POST.get("sure", "").strip().lower() != SURE:
            messages.error(request, f"Nothing was erased. Type “{SURE}” to erase them for good.")
        else:
            erase_and_log()
            messages.success(request, "They are erased for good. Their bare records stay, so that reports add up.")
        return HttpResponseRedirect(reverse("admin:audiences_customer_change", args=[customer.pk]))


def may_write(request: HttpRequest) -> bool:
    """Whether this teammate may send a message."""
    return request.user.has_perm(roles.WRITE_TO_ONE)


def notices(customer: Customer, *, can_change: bool) -> list[dict[str, Any]]:
    """What stands in the way of reaching them, with the button that takes it away."""
    found: list[dict[str, Any]] = [
        {"words": words, "flag": flag if can_change else "", "button": button, "tone": "bad"}
        for flag, (words, button, _) in CLEAR.items()
        if getattr(customer, flag)
    ]
    if customer.unsubscribed_from_emails:
        found.append({"words": UNSUBSCRIBED, "flag": "", "button": "", "tone": "warning"})
    if customer.archived_at:
        found.append(
            {
                "words": "This customer is archived: nothing reaches them.",
                "back": can_change,
                "flag": "",
                "button": "Bring them back",
                "tone": "plain",
            }
        )
    return found


def facts(customer: Customer) -> list[tuple[str, Any]]:
    """What is known of them, the unknown left out."""
    return known_facts(customer, FACTS)


def company_facts(company: Company) -> list[tuple[str, Any]]:
    """What is known of a company."""
    return known_facts(company, COMPANY_FACTS)


def known_facts(row: Any, table: tuple[tuple[str, str], ...]) -> list[tuple[str, Any]]:
    """The facts of a table that have a value."""
    found = []
    for name, label in table:
        value = getattr(row, name)
        value = value() if callable(value) else value
        if name == "owner" and value:
            value = name_of(value)
        if name == "email" and value and row.email_is_said:
            value = f"{value} (not confirmed: only their browser said so)"
        if value not in (None, ""):
            found.append((label, value))
    return found


def devices(customer: Customer) -> list[tuple[str, str]]:
    """Where they get pushes, and where they do not any more."""
    found = []
    for device in customer.devices.order_by(F("retired_at").asc(nulls_first=True), "-pk")[:MOST_DEVICES]:
        state, at = ("Gone", device.retired_at) if device.retired_at else ("Takes pushes", device.created_at)
        found.append((device.get_platform_display(), f"{state} since {date_format(timezone.localtime(at), 'j M Y')}"))
    return found


def custom(values: dict[str, Any], *, scope: str) -> list[tuple[str, Any]]:
    """Custom attributes as they read: a date is stored as seconds."""
    catalogue = CustomAttribute.objects.catalogue()
    kinds = catalogue.customer if scope == "customer" else catalogue.company
    return [(key, display_value(values[key], kinds.get(key))) for key in sorted(values)]


def display_value(value: Any, kind: Kind | None) -> Any:
    """One value."""
    if kind is Kind.DATE and isinstance(value, int | float):
        try:
            return timezone.datetime.fromtimestamp(value, tz=timezone.get_current_timezone())  # type: ignore[attr-defined]
        except (ValueError, OverflowError, OSError):
            return value
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return value


def as_row(record: DeliveryRecord) -> dict[str, Any]:
    """A record as the profile shows it, with its first words as they read to the customer."""
    try:
        copy = rendering.render_sent_copy(record)
    except content.ContentError:
        copy = None
    text = " ".join(copy.text.split()) if copy else ""
    return {
        "record": record,
        "chip": status_chip(record),
        "subject": copy.subject if copy else "",
        "excerpt": text if len(text) <= EXCERPT else f"{text[:EXCERPT].rstrip()}…",
        "is_long": len(text) > EXCERPT or bool(copy and "<img" in copy.html),
    }


def timeline(customer: Customer) -> list[dict[str, Any]]:
    """The latest of what they did, with what was said of it."""
    return [
        {
            "name": event.name,
            "at": event.happened_at,
            "facts": ", ".join(f"{key}: {display_metadata(value)}" for key, value in sorted(event.metadata.items())),
        }
        for event in customer.events.order_by("-happened_at", "-pk")[:MOST_EVENTS]
    ]


def display_metadata(value: Any) -> str:
    """One fact of an event: a price or a link comes as an object."""
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values())
    return str(display_value(value, None))


def conversations(customer: Customer) -> list[Conversation]:
    """The latest conversations with what was said in them."""
    rows = Conversation.objects.of_customer(customer).select_related("record__message")
    rows = rows.prefetch_related("parts__teammate")
    return list(rows.order_by("-updated_at")[:MOST_CONVERSATIONS])
