"""The throttle of each channel: messages per second, and a daily limit during a warm-up."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminSingleDateWidget, UnfoldAdminTextInputWidget

from delivery.models import Pace
from delivery.models.pace import check_plan, growing_plan
from delivery.reporting import progress
from delivery.sending import throttle
from messaging.models import Channel
from outbound.edits.admin import ChangeLogAdmin

# In-app messages are shown at a visit and not sent by a worker, so they have no throttle.
THROTTLED_CHANNELS = [channel for channel in Channel if channel != Channel.IN_APP]
MAX_PLAN_DAYS = 90
MAX_PER_DAY = 10_000_000


class PlanField(forms.CharField):
    """A warm-up plan as text: “50, 100, 200”."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(str(limit) for limit in value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[int]:
        """Parse and validate the plan."""
        typed = [part.strip() for part in super().clean(value).replace(";", ",").split(",") if part.strip()]
        for part in typed:
            if not (part.isascii() and part.isdecimal() and 0 < int(part) <= MAX_PER_DAY):
                raise ValidationError(f"“{part}” is not a whole number above zero. Write the plan like 50, 100, 200.")
        plan = [int(part) for part in typed]
        if len(plan) > MAX_PLAN_DAYS:
            raise ValidationError(f"A warm-up plan can have at most {MAX_PLAN_DAYS} days.")
        check_plan(plan)
        return plan

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class PaceForm(forms.ModelForm):
    """The limits of one channel."""

    warm_up = PlanField(
        required=False,
        label="Warm-up plan",
        widget=UnfoldAdminTextInputWidget({"placeholder": "50, 100, 200, 400"}),
        help_text="Messages on the first day, the second day, and so on. After the last day there is no limit.",
    )
    first = forms.IntegerField(
        required=False,
        label="Or generate a plan: messages on the first day",
        validators=[MinValueValidator(1)],
        max_value=MAX_PER_DAY,
        widget=UnfoldAdminTextInputWidget({"inputmode": "numeric", "placeholder": "50"}),
        help_text="The number doubles each day up to the next field.",
    )
    until = forms.IntegerField(
        required=False,
        label="Messages on the last day",
        validators=[MinValueValidator(1)],
        max_value=MAX_PER_DAY,
        widget=UnfoldAdminTextInputWidget({"inputmode": "numeric", "placeholder": "20000"}),
    )

    class Meta:
        model = Pace
        fields = ("channel", "per_second", "warm_up", "warm_up_from")
        widgets = {
            "channel": UnfoldAdminSelectWidget(),
            "per_second": UnfoldAdminTextInputWidget({"inputmode": "decimal"}),
            "warm_up_from": UnfoldAdminSingleDateWidget(),
        }
        help_texts = {"per_second": "For all workers together. Leave empty for no limit."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.per_second is not None:
            self.initial["per_second"] = f"{self.instance.per_second.normalize():f}"
        # A teammate with read-only access has no form fields.
        if "channel" in self.fields:
            taken = set(Pace.objects.exclude(pk=self.instance.pk).values_list("channel", flat=True))
            self.fields["channel"].choices = [  # type: ignore[attr-defined]
                (channel.value, channel.label) for channel in THROTTLED_CHANNELS if channel not in taken
            ]

    def clean(self) -> dict[str, Any]:
        """Create the warm-up plan from `first` and `until` if they are given."""
        data: dict[str, Any] = super().clean() or {}
        first, until = data.get("first"), data.get("until")
        if bool(first) != bool(until) and not {"first", "until"} & self.errors.keys():
            self.add_error("until" if first else "first", "Fill in both fields to generate a plan.")
        elif first and until and data.get("warm_up"):
            self.add_error("warm_up", "Write a plan or generate one, not both.")
        elif first and until and first > until:
            self.add_error("until", "Enter at least the number of the first day.")
        elif first and until:
            data["warm_up"] = growing_plan(first=first, until=until)
        return data


class PaceAdmin(ChangeLogAdmin):
    """The channels with limits. A channel without a row has none."""

    form = PaceForm
    list_display = ("channel_name", "limits", "sent_today", "current_rate")
    nothing_yet = "No channel has limits: each sends as fast as possible. Add a channel to limit it."
    actions = None
    ordering = ("channel",)
    fieldsets = (
        (None, {"fields": ("channel", "per_second")}),
        ("Warm-up", {"fields": ("warm_up_from", "warm_up", "first", "until")}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Pace | None = None) -> tuple[str, ...]:
        """The channel cannot be changed."""
        return ("channel",) if obj else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Each channel has at most one row."""
        return super().has_add_permission(request) and Pace.objects.count() < len(THROTTLED_CHANNELS)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        title = {"title": "Throttle"}
        answer: HttpResponse = super().changelist_view(request, {**(extra_context or {}), **title})
        return answer

    @display(description="Channel", ordering="channel")
    def channel_name(self, pace: Pace) -> str:
        return pace.get_channel_display()

    @display(description="Limits")
    def limits(self, pace: Pace) -> str:
        words = pace.in_words
        return words[:1].upper() + words[1:]

    @display(description="Sent today")
    def sent_today(self, pace: Pace) -> str:
        """Show the number of messages sent today, and today's limit."""
        day = throttle.day_of(timezone.now())
        limit, taken = pace.limit_on(day), pace.taken_today if pace.day == day else 0
        return f"{taken:,} of {limit:,}" if limit is not None else f"{taken:,}"

    @display(description="In the last minute")
    def current_rate(self, pace: Pace) -> str:
        """Show the rate of the last minute."""
        rate = progress.rate_of_channel(pace.channel, at=timezone.now())
        return f"{rate:,.1f} a second" if rate else "Nothing"
