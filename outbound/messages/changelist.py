"""The Outbound list: every message to an audience, with what it did, and its tabs and filters."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest
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
from outbound.console import formatting
from outbound.console.admin import ConsoleAdmin
from outbound.console.lists import List
from outbound.console.wording import STATE_TONES, measured, percent

ONE_PERSON = "one_person"
TABS: tuple[tuple[str, str], ...] = (("All", ""), *((kind.label, kind.value) for kind in SendType))


class ToWhom(DropdownFilter):
    """Messages to an audience, unless those to one person are asked for (behaviour 4.12)."""

    title = "to whom"
    parameter_name = "to"
    all_option = ("", "An audience")

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """What can be chosen."""
        return [(ONE_PERSON, "To one person")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Keep those asked for."""
        return queryset.to_one_person() if self.value() == ONE_PERSON else queryset.to_audiences()


class Page(List):
    """One page of the list: what its messages did and when they send next is read for all of them at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Find the rows, and give each its counts."""
        super().get_results(request)
        self.result_list: list[Message] = list(self.result_list)
        pks = [message.pk for message in self.result_list]
        numbers, due = counters.counts_of(pks), counters.next_due(pks)
        for message in self.result_list:
            message.__dict__ |= {"counts": numbers[message.pk], "next_due": due.get(message.pk)}


class OutboundList(ConsoleAdmin):
    """The list's columns and filters."""

    list_display = ("name", "sends", "by_channel", "how_far", "sent", "opened", "clicked", "replied", "began")
    list_filter = (
        ("channel", ChoicesDropdownFilter),
        ("state", ChoicesDropdownFilter),
        ("sender", RelatedDropdownFilter),
        ("tags", RelatedDropdownFilter),
        ToWhom,
    )
    own_lookups = ("send_type__exact",)
    nothing_yet = (
        "Ongoing messages go to everyone who matches now and anyone who matches later; "
        "one-off messages only to those who match now."
    )
    search_fields = ("title",)
    search_help_text = "Search by name"
    ordering = ("-pk",)
    list_before_template = "outbound/list_tabs.html"
    change_list_template = "outbound/message_list.html"
    list_select_related = ("to_customer",)
    actions = ("pause_chosen", "resume_chosen", "duplicate_chosen")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[List]:
        """The page that reads the counts of its rows."""
        return Page

    def get_actions(self, request: HttpRequest) -> Any:
        """What can be done to many, without deleting them."""
        return {name: found for name, found in super().get_actions(request).items() if name != "delete_selected"}

    def has_set_live_permission(self, request: HttpRequest) -> bool:
        """Whether this teammate may pause and resume."""
        return request.user.has_perm(roles.SET_LIVE)

    @action(description="Pause", permissions=["set_live"])
    def pause_chosen(self, request: HttpRequest, chosen: QuerySet[Message]) -> None:
        """Hold each of them."""
        message_actions.carry_out_each(
            self, request, chosen, message_actions.ACTS["pause"], done="paused", at=timezone.now()
        )

    @action(description="Resume", permissions=["set_live"])
    def resume_chosen(self, request: HttpRequest, chosen: QuerySet[Message]) -> None:
        """Let each of them go on."""
        message_actions.carry_out_each(
            self, request, chosen, message_actions.ACTS["resume"], done="resumed", at=timezone.now()
        )

    @action(description="Duplicate", permissions=["add"])
    def duplicate_chosen(self, request: HttpRequest, chosen: QuerySet[Message]) -> None:
        """Make a draft of each of them."""
        message_actions.carry_out_each(
            self, request, chosen, message_actions.DUPLICATE, done="duplicated as drafts", at=timezone.now()
        )

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Message | None:
        """One message, without the figures of the list."""
        if not object_id.isdecimal():
            return None
        return (
            Message.objects.select_related("sender", "audience", "version", "to_customer").filter(pk=object_id).first()
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list, with its tabs."""
        own = {"title": "Outbound", "tabs": list(tabs(request)), "none_yet": none_yet(request)}
        return super().changelist_view(request, {**(extra_context or {}), **own})

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
            return format_html(
                "{} {}", formatting.chip(message.get_state_display(), "warning"), formatting.chip("Trouble", "bad")
            )
        return formatting.chip(message.get_state_display(), STATE_TONES[State(message.state)])

    @display(description="Sent", ordering=F("count__sent").desc(nulls_last=True))
    def sent(self, message: Message) -> SafeString | str:
        """How many were handed over, and how many wait until when."""
        found = counts_of(message)
        waits = waiting_words(message, found, due=getattr(message, "next_due", None), at=timezone.now())
        if not waits:
            return f"{found.sent:,}" if message.is_locked else "–"
        return format_html('{}<span class="ob-under">{}</span>', f"{found.sent:,}" if message.is_locked else "–", waits)

    @display(description="Opened", ordering=F("count__opened").desc(nulls_last=True))
    def opened(self, message: Message) -> SafeString | str:
        """How many of those were opened."""
        return share(message, "opened")

    @display(description="Clicked", ordering=F("count__clicked").desc(nulls_last=True))
    def clicked(self, message: Message) -> SafeString | str:
        """How many of those were clicked."""
        return share(message, "clicked")

    @display(description="Replied", ordering=F("count__replied").desc(nulls_last=True))
    def replied(self, message: Message) -> SafeString | str:
        """How many of those were replied to."""
        return share(message, "replied")

    @admin.display(description="Live since", ordering="went_live_at", empty_value="–")
    def began(self, message: Message) -> Any:
        """When it went live."""
        return message.went_live_at


def counts_of(message: Message) -> Counts:
    """What the page has read for this row."""
    found = getattr(message, "counts", None)
    return found if isinstance(found, Counts) else Counts()


def share(message: Message, what: str) -> SafeString | str:
    """A number and its share of what was sent; a dash where nothing was, or where it cannot be measured."""
    found = counts_of(message)
    part = found.value_of(what)
    if not found.sent or (not part and what not in measured(message.channel)):
        return "–"
    return format_html('{}<span class="ob-under">{}</span>', f"{part:,}", percent(part, found.sent))


def waiting_words(message: Message, found: Counts, *, due: datetime | None, at: datetime) -> str:
    """How many wait, and until when; for a scheduled one, when it goes live."""
    if message.state == State.SCHEDULED and message.scheduled_for:
        return (
            f"{'Goes' if message.scheduled_for > at else 'Was to go'} live {formatting.moment(message.scheduled_for)}"
        )
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


def none_yet(request: HttpRequest) -> str:
    """What an empty list says: nothing was asked for, so there is nothing."""
    asked = {name for name in request.GET if name != "send_type__exact"}
    if asked:
        return ""
    kind = request.GET.get("send_type__exact")
    return f"No {SendType(kind).label.lower()} message yet." if kind in SendType.values else "No message yet."


def tabs(request: HttpRequest) -> Iterator[dict[str, Any]]:
    """All, Ongoing, One-off: links to the same list, which keep what is searched and filtered for."""
    chosen = request.GET.get("send_type__exact", "")
    one_person = request.GET.get("to") == ONE_PERSON
    for label, kind in TABS:
        query = request.GET.copy()
        for name in ("p", "to", "send_type__exact"):
            query.pop(name, None)
        if kind:
            query["send_type__exact"] = kind
        yield {"label": label, "link": f"?{query.urlencode()}", "active": kind == chosen and not one_person}
