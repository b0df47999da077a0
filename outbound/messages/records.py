"""The pages of delivery records."""

from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from delivery import rendering
from delivery.models import DeliveryRecord, Status
from delivery.sending import uncertain as uncertain_records
from messaging import content
from messaging.models import Message
from outbound.console.admin import CappedPaginator, column
from outbound.console.formatting import chip
from outbound.console.wording import STATUS_TONES, STATUS_WORDS
from outbound.messages import recipients, report, uncertain


class DeliveryRecordAdmin(uncertain.UncertainPages):
    """The delivery records: one row for each message to each customer, read only."""

    own_pages = (("of/<int:message_id>/export/", "export"), *uncertain.PAGES)
    list_display = ("recipient", "message_shown", "status_shown", "reason_shown", "matched", "sent")
    sent = column("sent_at", called="Sent")
    nothing_yet = "Every copy of a message is listed here once the message is live."
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("reason", ChoicesDropdownFilter),
        ("message__channel", ChoicesDropdownFilter),
        ("message", AutocompleteSelectFilter),
    )
    own_lookups = ("customer__id__exact",)
    search_fields = ("customer__name", "customer__email", "customer__user_id")
    search_help_text = "Search by the customer’s name, email or user ID"
    ordering = ("-pk",)
    paginator = CappedPaginator

    def export(self, request: HttpRequest, message_id: int) -> StreamingHttpResponse:
        """Export the recipients of one message as CSV, limited to the report's status, reason and search."""
        if not (report.may_export(request) and request.user.has_perm("messaging.view_message")):
            raise PermissionDenied
        message = Message.objects.filter(pk=message_id).first()
        if message is None:
            raise Http404(f"There is no message {message_id}.")
        asked = request.GET
        self.note(request, message, "Exported its people")
        return recipients.csv_response(
            message,
            status=asked.get("status", ""),
            reason=asked.get("reason", ""),
            search=recipients.search_text(request),
        )

    @display(description="Customer")
    def recipient(self, record: DeliveryRecord) -> SafeString | str:
        if record.company is None:
            return str(record.customer)
        return format_html('{}<span class="ob-under">{}</span>', record.customer, record.company)

    @display(description="Message")
    def message_shown(self, record: DeliveryRecord) -> SafeString:
        return format_html('{}<span class="ob-under">{}</span>', record.message, record.message.get_channel_display())

    @display(description="Status", ordering="status")
    def status_shown(self, record: DeliveryRecord) -> SafeString:
        return status_chip(record)

    @display(description="Reason")
    def reason_shown(self, record: DeliveryRecord) -> str:
        return record.why or "–"

    @display(description="Matched", ordering="matched_at")
    def matched(self, record: DeliveryRecord) -> datetime:
        return record.matched_at

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeliveryRecord]:
        return super().get_queryset(request).select_related("customer", "message__topic", "company", "version")

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        """Show one record: its content, status, reason and timeline."""
        record = self.get_object_or_refuse(request, object_id, to="view")
        return self.page(
            request,
            "outbound/messages/record.html",
            title=str(record.message),
            original=record,
            status=200,
            chip=status_chip(record),
            meaning=STATUS_WORDS[Status(record.status)],
            moments=moments(record),
            evidence=uncertain_records.evidence_of(record) if record.status == Status.UNCERTAIN else None,
            may_settle=request.user.has_perm(uncertain.PERMISSION),
            **as_read_by_customer(record),
        )


def status_chip(record: DeliveryRecord) -> SafeString:
    return chip(record.get_status_display(), STATUS_TONES[Status(record.status)])


MOMENTS: tuple[tuple[str, str], ...] = (
    ("matched_at", "Matched"),
    ("due_at", "Due"),
    ("sent_at", "Sent"),
    ("opened_at", "Opened"),
    ("clicked_at", "Clicked"),
    ("replied_at", "Replied"),
    ("dismissed_at", "Dismissed"),
    ("bounced_at", "Bounced"),
    ("hard_bounced_at", "The mailbox does not exist"),
    ("complained_at", "Marked as spam"),
    ("unsubscribed_at", "Unsubscribed"),
)


def moments(record: DeliveryRecord) -> list[tuple[str, datetime]]:
    """Return the events of a record with their times."""
    return [(label, when) for name, label in MOMENTS if (when := getattr(record, name))]


def as_read_by_customer(record: DeliveryRecord) -> dict[str, Any]:
    """Return the copy as the customer received it, or the reason why it cannot be shown."""
    try:
        return {"copy": rendering.render_sent_copy(record), "cannot_show": ""}
    except content.ContentError as wrong:
        return {"copy": None, "cannot_show": str(wrong)}
