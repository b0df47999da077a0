"""The Outbound list: every message to an audience, with what it did, and its tabs and filters."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import JSONObject
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from delivery.models import DeliveryRecord, Status
from messaging.models import Message, SendType, State
from outbound.console import ConsoleAdmin
from outbound.wording import STATE_TONES, percent

ONE_PERSON = "one_person"
TABS: tuple[tuple[str, str], ...] = (("All", ""), *((kind.label, kind.value) for kind in SendType))


def chip(text: str, tone: str) -> SafeString:
    """A word in a coloured chip."""
    return format_html('<span class="ob-chip ob-chip-{}">{}</span>', tone, text)


def with_figures(messages: QuerySet[Message]) -> QuerySet[Message]:
    """Each with how many records were sent, opened, clicked, replied to and wait, in one column of the same query."""
    sent = Q(status=Status.SENT)
    figures = (
        DeliveryRecord.objects.filter(message=OuterRef("pk"))
        .order_by()
        .values("message")
        .annotate(
            figures=JSONObject(
                waiting=Count("pk", filter=Q(status=Status.WAITING)),
                sent=Count("pk", filter=sent),
                opened=Count("pk", filter=sent & Q(opened_at__isnull=False)),
                clicked=Count("pk", filter=sent & Q(clicked_at__isnull=False)),
                replied=Count("pk", filter=sent & Q(replied_at__isnull=False)),
            )
        )
        .values("figures")
    )
    return messages.annotate(figures=Subquery(figures))


class ToWhom(DropdownFilter):
    """Messages to an audience, unless those to one person are asked for (DESIGN 4.12)."""

    title = "to whom"
    parameter_name = "to"
    all_option = ("", "An audience")

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """What can be chosen."""
        return [(ONE_PERSON, "To one person")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Keep those asked for."""
        return queryset.to_one_person() if self.value() == ONE_PERSON else queryset.to_audiences()


class OutboundList(ConsoleAdmin):
    """The list's columns and filters."""

    list_display = ("name", "sends", "by_channel", "how_far", "sent", "opened", "clicked", "replied", "began")
    list_filter = (
        ("state", ChoicesDropdownFilter),
        ("channel", ChoicesDropdownFilter),
        ("sender", RelatedDropdownFilter),
        ToWhom,
    )
    search_fields = ("title",)
    search_help_text = "Search by name"
    ordering = ("-pk",)
    list_before_template = "outbound/list_tabs.html"
    change_list_template = "outbound/message_list.html"
    list_select_related = ("to_customer",)
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        """All messages, with their figures."""
        return with_figures(super().get_queryset(request))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Message | None:
        """One message, without the figures of the list."""
        if not object_id.isdecimal():
            return None
        return (
            Message.objects.select_related("sender", "audience", "version", "to_customer").filter(pk=object_id).first()
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list, with its tabs."""
        return super().changelist_view(request, {**(extra_context or {}), "title": "Outbound", "tabs": tabs(request)})

    @display(description="Name", ordering="title")
    def name(self, message: Message) -> SafeString | str:
        """What the team calls it, and to whom a message to one person went."""
        if message.to_customer is None:
            return message.title
        return format_html('{}<span class="ob-under">To {}</span>', message.title, message.to_customer)

    @display(description="Sends", ordering="send_type")
    def sends(self, message: Message) -> str:
        """Ongoing or One-off."""
        return message.get_send_type_display()

    @display(description="Channel", ordering="channel")
    def by_channel(self, message: Message) -> str:
        """Its channel, and the form of an in-app one."""
        return f"{message.get_channel_display()} {message.get_format_display().lower()}".strip()

    @display(description="State", ordering="state")
    def how_far(self, message: Message) -> SafeString:
        """Its state."""
        if message.trouble:
            return format_html("{} {}", chip(message.get_state_display(), "warning"), chip("Trouble", "bad"))
        return chip(message.get_state_display(), STATE_TONES[State(message.state)])

    @display(description="Sent")
    def sent(self, message: Message) -> SafeString | str:
        """How many were handed over, and how many wait."""
        figures = message.figures or {}  # type: ignore[attr-defined]
        if not figures.get("waiting"):
            return f"{figures.get('sent', 0):,}"
        return format_html(
            '{}<span class="ob-under">{} waiting</span>', f"{figures['sent']:,}", f"{figures['waiting']:,}"
        )

    @display(description="Opened")
    def opened(self, message: Message) -> SafeString | str:
        """How many of those were opened."""
        return share(message, "opened")

    @display(description="Clicked")
    def clicked(self, message: Message) -> SafeString | str:
        """How many of those were clicked."""
        return share(message, "clicked")

    @display(description="Replied")
    def replied(self, message: Message) -> SafeString | str:
        """How many of those were replied to."""
        return share(message, "replied")

    @admin.display(description="Live since", ordering="went_live_at", empty_value="–")
    def began(self, message: Message) -> Any:
        """When it went live."""
        return message.went_live_at


def share(message: Message, figure: str) -> SafeString | str:
    """A figure as a number, and as a share of what was sent."""
    figures = message.figures or {}  # type: ignore[attr-defined]
    if not figures.get("sent"):
        return "–"
    part = figures[figure]
    return format_html('{}<span class="ob-under">{}</span>', f"{part:,}", percent(part, figures["sent"]))


def tabs(request: HttpRequest) -> Iterator[dict[str, Any]]:
    """All, Ongoing, One-off: links to the same list."""
    address = reverse("admin:messaging_message_changelist")
    chosen = request.GET.get("send_type__exact", "")
    one_person = request.GET.get("to") == ONE_PERSON
    for label, kind in TABS:
        link = f"{address}?send_type__exact={kind}" if kind else address
        yield {"label": label, "link": link, "active": kind == chosen and not one_person}
