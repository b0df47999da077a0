"""The Outbound list: messages to audiences with their counts, tabs and filters."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RelatedDropdownFilter
from unfold.decorators import action, display

from delivery.reporting import counters
from delivery.reporting.counters import Counts
from messaging.models import RUNNING, Message, SendType, State
from outbound import actions as message_actions
from outbound import roles
from outbound.composer import tags
from outbound.console import formatting
from outbound.console.admin import ConsoleAdmin
from outbound.console.lists import ConsoleChangeList
from outbound.console.wording import STATE_TONES, measurable_events, percent

ONE_PERSON = "one_person"
TABS: tuple[tuple[str, str], ...] = (("All", ""), *((kind.label, kind.value) for kind in SendType))


# The field of the palette says it.
WHY_QUESTION = "Why did they get it, or not? Type a name, an email or an ID"


class RecipientFilter(DropdownFilter):
    """A filter that shows messages to an audience unless direct messages are asked for (behaviour 4.12)."""

    title = "recipients"
    parameter_name = "to"
    all_option = ("", "An audience")

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(ONE_PERSON, "One person")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.to_one_person() if self.value() == ONE_PERSON else queryset.to_audiences()


class OutboundChangeList(ConsoleChangeList):
    """A page of the list that loads the counts and next send times of its rows with one query each."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: list[Message] = list(self.result_list)
        pks = [message.pk for message in self.result_list]
        numbers, due = counters.counts_of(pks), counters.next_due(pks)
        for message in self.result_list:
            message.__dict__ |= {"counts": numbers[message.pk], "next_due": due.get(message.pk)}


class OutboundList(ConsoleAdmin):
    """The columns, filters and actions of the list."""

    list_display = ("name", "sends", "by_channel", "state_chip", "sent", "opened", "clicked", "replied", "began", "why")
    list_filter = (
        ("channel", ChoicesDropdownFilter),
        ("state", ChoicesDropdownFilter),
        ("sender", RelatedDropdownFilter),
        ("tags", RelatedDropdownFilter),
        ("topic", RelatedDropdownFilter),
        RecipientFilter,
    )
    own_lookups = ("send_type__exact",)
    nothing_yet = (
        "Ongoing messages go to everyone who matches now and anyone who matches later; "
        "one-off messages only to those who match now."
    )
    search_fields = ("title",)
    search_help_text = "Search by name"
    ordering = ("-pk",)
    list_before_template = "outbound/messages/list_tabs.html"
    change_list_template = "outbound/messages/list.html"
    list_select_related = ("to_customer",)
    actions = ("pause_chosen", "resume_chosen", "duplicate_chosen", "tag_chosen")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ConsoleChangeList]:
        return OutboundChangeList

    def get_actions(self, request: HttpRequest) -> Any:
        """Return the bulk actions without Django's deletion."""
        return {name: found for name, found in super().get_actions(request).items() if name != "delete_selected"}

    def has_set_live_permission(self, request: HttpRequest) -> bool:
        """Whether this teammate may pause and resume."""
        return request.user.has_perm(roles.SET_LIVE)

    @action(description="Pause", permissions=["set_live"])
    def pause_chosen(self, request: HttpRequest, chosen: QuerySet[Message]) -> None:
        message_actions.pause_each(request, chosen, at=timezone.now())

    @action(description="Resume", permissions=["set_live"])
    def resume_chosen(self, request: HttpRequest, chosen: QuerySet[Message]) -> None:
        message_actions.carry_out_each(
            request, chosen, message_actions.ACTS["resume"], done="resumed", at=timezone.now()
        )

    @action(description="Duplicate", permissions=["add"])
    def duplicate_chosen(self, request: HttpRequest, chosen: QuerySet[Message]) -> None:
        message_actions.carry_out_each(
            request, chosen, message_actions.DUPLICATE, done="duplicated as drafts", at=timezone.now()
        )

    @action(description="Add or remove a tag", permissions=["change"])
    def tag_chosen(self, request: HttpRequest, chosen: QuerySet[Message]) -> HttpResponse:
        return tags.tag_messages(self, request, list(chosen.order_by("pk")[: tags.MESSAGES_TICKED_MAX + 1]))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Message | None:
        """Return one message without the list's annotations."""
        if not object_id.isdecimal():
            return None
        return (
            Message.objects.select_related("sender", "audience", "version", "to_customer").filter(pk=object_id).first()
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        own = {"title": "Outbound", "tabs": list(tabs(request)), "none_yet": empty_heading(request)}
        return super().changelist_view(request, {**(extra_context or {}), **own})

    @display(description="Name", ordering="title")
    def name(self, message: Message) -> SafeString | str:
        """Return the name, and the customer of a direct message."""
        if message.to_customer is None:
            return message.title
        return format_html('{}<span class="ob-under">To {}</span>', message.title, message.to_customer)

    @display(description="Sends", ordering="send_type")
    def sends(self, message: Message) -> SafeString | str:
        """Return the send type, and when rounds check the filters."""
        kind = message.get_send_type_display()
        if not message.is_matched_by_rounds:
            return kind
        return format_html('{}<span class="ob-under">Checked {}</span>', kind, message.get_checking_display().lower())

    @display(description="Channel", ordering="channel")
    def by_channel(self, message: Message) -> str:
        """Return the channel, and the format of an in-app message."""
        return f"{message.get_channel_display()} {message.get_format_display().lower()}".strip()

    @display(description="State", ordering="state")
    def state_chip(self, message: Message) -> SafeString:
        if message.problem or message.paused_because:
            return format_html(
                "{} {}", formatting.chip(message.get_state_display(), "warning"), formatting.chip("Problem", "bad")
            )
        return formatting.chip(message.get_state_display(), STATE_TONES[State(message.state)])

    @display(description="Sent", ordering=F("count__sent").desc(nulls_last=True))
    def sent(self, message: Message) -> SafeString | str:
        """Return the number of sent copies, and of waiting ones with their next time."""
        found = counts_of(message)
        waits = waiting_words(message, found, due=getattr(message, "next_due", None), at=timezone.now())
        if not waits:
            return f"{found.sent:,}" if message.is_locked else "–"
        return format_html('{}<span class="ob-under">{}</span>', f"{found.sent:,}" if message.is_locked else "–", waits)

    @display(description="Opened", ordering=F("count__opened").desc(nulls_last=True))
    def opened(self, message: Message) -> SafeString | str:
        return count_and_share(message, "opened")

    @display(description="Clicked", ordering=F("count__clicked").desc(nulls_last=True))
    def clicked(self, message: Message) -> SafeString | str:
        return count_and_share(message, "clicked")

    @display(description="Replied", ordering=F("count__replied").desc(nulls_last=True))
    def replied(self, message: Message) -> SafeString | str:
        return count_and_share(message, "replied")

    @admin.display(description="Live since", ordering="went_live_at", empty_value="–")
    def began(self, message: Message) -> Any:
        return message.went_live_at

    @display(description="Why?")
    def why(self, message: Message) -> SafeString | str:
        """Return the button that asks why a customer did or did not get a message to an audience."""
        if message.to_customer is not None:
            return ""
        return format_html(
            '<button type="button" class="ob-button ob-small" data-palette data-message="{}" data-question="{}"'
            ' aria-label="Why? “{}”">Why?</button>',
            *(message.pk, WHY_QUESTION, message.title),
        )


def counts_of(message: Message) -> Counts:
    found = getattr(message, "counts", None)
    return found if isinstance(found, Counts) else Counts()


def count_and_share(message: Message, what: str) -> SafeString | str:
    """Return a number and its share of sent copies; a dash if none were sent or the channel cannot measure it."""
    found = counts_of(message)
    part = found.value_of(what)
    if not found.sent or (not part and what not in measurable_events(message.channel)):
        return "–"
    return format_html('{}<span class="ob-under">{}</span>', f"{part:,}", percent(part, found.sent))


def waiting_words(message: Message, found: Counts, *, due: datetime | None, at: datetime) -> str:
    """Return the number of waiting copies and their next time; for a scheduled message, its launch time."""
    if message.state == State.SCHEDULED and message.scheduled_for:
        verb = "Goes live" if message.scheduled_for > at else "Was scheduled for"
        return f"{verb} {formatting.moment(message.scheduled_for)}"
    if not found.waiting:
        return ""
    waits = f"{found.waiting:,} waiting"
    if message.state == State.PAUSED:
        return f"{waits} until resumed"
    if message.state not in RUNNING:
        return waits
    if due is None:
        return f"{waits} for a visit"
    return f"{waits}, sending now" if due <= at else f"{waits}, next {formatting.moment(due)}"


def empty_heading(request: HttpRequest) -> str:
    """Return the heading of an empty list, or "" if a search or filter is active."""
    asked = {name for name in request.GET if name != "send_type__exact"}
    if asked:
        return ""
    kind = request.GET.get("send_type__exact")
    return f"No {SendType(kind).label.lower()} messages yet." if kind in SendType.values else "No messages yet."


def tabs(request: HttpRequest) -> Iterator[dict[str, Any]]:
    """Yield the tabs All, Ongoing and One-off as links that keep the search and the filters."""
    chosen = request.GET.get("send_type__exact", "")
    one_person = request.GET.get("to") == ONE_PERSON
    for label, kind in TABS:
        query = request.GET.copy()
        for name in ("p", "to", "send_type__exact"):
            query.pop(name, None)
        if kind:
            query["send_type__exact"] = kind
        yield {"label": label, "link": f"?{query.urlencode()}", "active": kind == chosen and not one_person}
