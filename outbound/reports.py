"""What a message did: its report, and the delivery records behind it."""

from datetime import datetime
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from audiences.rules import RuleError
from delivery import copies
from delivery.models import DeliveryRecord, Reason, Status
from messaging import content
from messaging.models import RUNNING, Channel, Message, SendType, State
from outbound.composer.review import HOW, ONCE, ONCE_PER_COMPANY, WHO, when
from outbound.console import ConsoleAdmin, ReadOnlyAdmin
from outbound.listing import chip
from outbound.wording import STATE_TONES, STATUS_TONES, STATUS_WORDS, audience_lines, percent

LATEST = 10


def report(admin: ConsoleAdmin, request: HttpRequest, message: Message) -> HttpResponse:
    """Draw the page of a message that is no draft any more."""
    at = timezone.now()
    can_change = admin.has_change_permission(request, message)
    return admin.page(
        request,
        "outbound/report.html",
        title=message.title,
        original=message,
        state=chip(message.get_state_display(), STATE_TONES[State(message.state)]),
        can_change=can_change,
        can_add=admin.has_add_permission(request) and message.to_customer_id is None,
        offers=offers(message) if can_change else set(),
        sentences=sentences(message, at=at),
        lines=lines(message),
        figures=figures(message),
        statuses=statuses(message),
        latest=message.records.select_related("customer", "company", "message").order_by("-pk")[:LATEST],
        versions=message.versions.select_related("author").order_by("-number"),
        log=admin.history_of(message),
        locked_why=locked_why(message),
    )


def offers(message: Message) -> set[str]:
    """Which buttons this message has right now."""
    state = State(message.state)
    found = {
        State.SCHEDULED: {"unschedule", "live"},
        State.LIVE: {"pause", "stop", "content"},
        State.SAMPLED: {"pause", "stop", "rest", "content"},
        State.PAUSED: {"resume", "stop", "content"},
    }.get(state, set())
    if message.to_customer_id:
        return found - {"content"}
    if state == State.PAUSED and message.send_type == SendType.ONGOING:
        found = found | {"audience"}
    return found


def sentences(message: Message, *, at: datetime) -> list[str]:
    """How it sends, in words."""
    if message.to_customer:
        about = f" about {message.to_company}" if message.to_company else ""
        return [f"To {message.to_customer} alone{about}."]
    kind, channel = SendType(message.send_type), Channel(message.channel)
    how = [HOW[kind, channel]] if message.state in RUNNING and kind == SendType.ONGOING else []
    return [WHO[kind], *how, ONCE_PER_COMPANY if message.goes_per_company else ONCE, when(message, at=at)]


def locked_why(message: Message) -> str:
    """What can no longer be changed, and why."""
    if not message.is_locked:
        return ""
    if message.to_customer_id:
        return "It has been sent, so nothing about it can be changed."
    what = "The channel, the way it sends and how often a customer gets it"
    if message.send_type == SendType.ONE_OFF:
        what = "The channel, the way it sends, the filters and how often a customer gets it"
    tail = " Duplicate it to send it another way." if message.audience_id else ""
    if message.send_type == SendType.ONGOING and message.state in RUNNING:
        tail = " Pause it to change the filters; duplicate it to send it another way."
    return f"{what} are locked, because this message has been live.{tail}"


def lines(message: Message) -> list[Any]:
    """Its filters in words."""
    if message.audience is None:
        return []
    try:
        return list(audience_lines(message.audience.tree))
    except RuleError:
        return []  # The report shows the trouble of the message itself.


def figures(message: Message) -> list[dict[str, Any]]:
    """Sent, opened, clicked, replied and what went wrong, as numbers and as shares of what was sent."""
    sent = Q(status=Status.SENT)
    found = message.records.aggregate(
        sent=Count("pk", filter=sent),
        opened=Count("pk", filter=sent & Q(opened_at__isnull=False)),
        clicked=Count("pk", filter=sent & Q(clicked_at__isnull=False)),
        replied=Count("pk", filter=sent & Q(replied_at__isnull=False)),
        bounced=Count("pk", filter=Q(bounced_at__isnull=False)),
        unsubscribed=Count("pk", filter=Q(unsubscribed_at__isnull=False)),
    )
    shown = ["sent", "opened", "clicked", "replied"]
    if message.channel == Channel.EMAIL:
        shown += ["bounced", "unsubscribed"]
    return [
        {
            "label": name.capitalize(),
            "number": found[name],
            "share": percent(found[name], found["sent"]) if name != "sent" and found["sent"] else "",
        }
        for name in shown
    ]


def statuses(message: Message) -> dict[str, Any]:
    """Its records by status and reason, in records and people, and their sum."""
    rows: list[Any] = list(
        message.records.order_by()
        .values("status", "reason")
        .annotate(records=Count("pk"), people=Count("customer", distinct=True))
    )
    by_status: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_status.setdefault(row["status"], []).append(row)
    paused = message.state == State.PAUSED
    shown = [
        {
            "status": status,
            "label": status.label,
            "tone": STATUS_TONES[status],
            "words": STATUS_WORDS[status],
            "records": sum(row["records"] for row in by_status[status]),
            "reasons": [
                {
                    "words": Reason.PAUSED.label
                    if paused and status == Status.WAITING
                    else Reason(row["reason"]).label,
                    "reason": row["reason"],
                    "records": row["records"],
                }
                for row in sorted(by_status[status], key=lambda row: -row["records"])
                if row["reason"]
            ],
        }
        for status in Status
        if status in by_status
    ]
    return {
        "rows": shown,
        "records": sum(row["records"] for row in shown),
        "people": message.records.people(),
        "sums": " + ".join(f"{row['records']:,} {str(row['label']).lower()}" for row in shown),
    }


class DeliveryRecordAdmin(ReadOnlyAdmin):
    """Every message to every customer, as it went; nothing here can be changed."""

    list_display = ("to", "of", "how", "why_so", "matched", "sent_at")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("reason", ChoicesDropdownFilter),
        ("message__channel", ChoicesDropdownFilter),
        ("message", AutocompleteSelectFilter),
    )
    search_fields = ("customer__name", "customer__email", "customer__user_id")
    search_help_text = "Search by the customer’s name, email or user ID"
    ordering = ("-pk",)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Besides the filters, all of one customer or one message."""
        return lookup in ("customer__id__exact", "message__id__exact") or super().lookup_allowed(lookup, value, request)

    @display(description="Customer")
    def to(self, record: DeliveryRecord) -> SafeString | str:
        """Who, and at which company."""
        if record.company is None:
            return str(record.customer)
        return format_html('{}<span class="ob-under">{}</span>', record.customer, record.company)

    @display(description="Message")
    def of(self, record: DeliveryRecord) -> SafeString:
        """What, and by which channel."""
        return format_html('{}<span class="ob-under">{}</span>', record.message, record.message.get_channel_display())

    @display(description="Status", ordering="status")
    def how(self, record: DeliveryRecord) -> SafeString:
        """Its status."""
        return status_chip(record)

    @display(description="Reason")
    def why_so(self, record: DeliveryRecord) -> str:
        """The reason in words."""
        return record.why or "–"

    @display(description="Matched", ordering="matched_at")
    def matched(self, record: DeliveryRecord) -> datetime:
        """When the customer matched."""
        return record.matched_at

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeliveryRecord]:
        """With what each row names."""
        return super().get_queryset(request).select_related("customer", "message", "company", "version")

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        """One record: how it read, why it stands where it does, and each moment of it."""
        record = self.found(request, object_id, to="view")
        return self.page(
            request,
            "outbound/record.html",
            title=str(record.message),
            original=record,
            status=200,
            chip=status_chip(record),
            meaning=STATUS_WORDS[Status(record.status)],
            moments=moments(record),
            **read(record),
        )


def status_chip(record: DeliveryRecord) -> SafeString:
    """A record's status as a chip."""
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
    ("complained_at", "Marked as spam"),
    ("unsubscribed_at", "Unsubscribed"),
)


def moments(record: DeliveryRecord) -> list[tuple[str, datetime]]:
    """What happened to it, and when."""
    return [(label, when) for name, label in MOMENTS if (when := getattr(record, name))]


def read(record: DeliveryRecord) -> dict[str, Any]:
    """How it read to the customer, or why that cannot be shown."""
    try:
        return {"copy": copies.as_read(record), "cannot_show": ""}
    except content.ContentError as wrong:
        return {"copy": None, "cannot_show": str(wrong)}
