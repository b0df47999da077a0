"""The pace of each channel: how many a second, and how many a day while a new sender warms up."""

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
from outbound.console.change_message import ChangeLogAdmin

# What a visit shows is a row and is handed over by nobody, so it has no pace.
PACED = [channel for channel in Channel if channel != Channel.IN_APP]
MOST_DAYS = 90
MOST_A_DAY = 10_000_000


class PlanField(forms.CharField):
    """A warm-up plan as it is typed: “50, 100, 200”."""

    def prepare_value(self, value: Any) -> Any:
        """The plan as text."""
        return ", ".join(str(limit) for limit in value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[int]:
        """Read the numbers."""
        typed = [part.strip() for part in super().clean(value).replace(";", ",").split(",") if part.strip()]
        for part in typed:
            if not (part.isascii() and part.isdecimal() and 0 < int(part) <= MOST_A_DAY):
                raise ValidationError(f"Type whole numbers above zero, like 50, 100, 200. “{part}” is none.")
        plan = [int(part) for part in typed]
        if len(plan) > MOST_DAYS:
            raise ValidationError(f"A warm-up plan has at most {MOST_DAYS} days.")
        check_plan(plan)
        return plan

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether another plan was typed."""
        return super().has_changed(self.prepare_value(initial), data)


class PaceForm(forms.ModelForm):
    """The limits of one channel."""

    warm_up = PlanField(
        required=False,
        label="Warm-up plan",
        widget=UnfoldAdminTextInputWidget({"placeholder": "50, 100, 200, 400"}),
        help_text="How many may go out on the first day, the second, and so on. After the last there is no limit.",
    )
    first = forms.IntegerField(
        required=False,
        label="Or begin with, on the first day",
        validators=[MinValueValidator(1)],
        max_value=MOST_A_DAY,
        widget=UnfoldAdminTextInputWidget({"inputmode": "numeric", "placeholder": "50"}),
        help_text="Twice as many each day, until it is enough.",
    )
    until = forms.IntegerField(
        required=False,
        label="Until so many a day are enough",
        validators=[MinValueValidator(1)],
        max_value=MOST_A_DAY,
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.per_second is not None:
            self.initial["per_second"] = f"{self.instance.per_second.normalize():f}"
        # Only what the page shows: a teammate who may only look has no fields.
        if "channel" in self.fields:
            taken = set(Pace.objects.exclude(pk=self.instance.pk).values_list("channel", flat=True))
            self.fields["channel"].choices = [  # type: ignore[attr-defined]
                (channel.value, channel.label) for channel in PACED if channel not in taken
            ]

    def clean(self) -> dict[str, Any]:
        """Make the plan that was asked for."""
        data: dict[str, Any] = super().clean() or {}
        first, until = data.get("first"), data.get("until")
        if bool(first) != bool(until) and not {"first", "until"} & self.errors.keys():
            self.add_error("until" if first else "first", "Type both, and the plan is made for you.")
        elif first and until and data.get("warm_up"):
            self.add_error("warm_up", "Type the plan, or have one made: not both.")
        elif first and until and first > until:
            self.add_error("until", "Type at least as many as on the first day.")
        elif first and until:
            data["warm_up"] = growing_plan(first=first, until=until)
        return data


class PaceAdmin(ChangeLogAdmin):
    """The channels with a limit; a channel that is not listed has none."""

    form = PaceForm
    list_display = ("of", "limits", "today", "now")
    nothing_yet = "A channel without a row here has no limits: it sends as fast as it takes messages."
    actions = None
    ordering = ("channel",)
    fieldsets = (
        (None, {"fields": ("channel", "per_second")}),
        ("Warm-up", {"fields": ("warm_up_from", "warm_up", "first", "until")}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Pace | None = None) -> tuple[str, ...]:
        """Which channel it is of stays."""
        return ("channel",) if obj else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """While a channel is left that has no limits."""
        return super().has_add_permission(request) and Pace.objects.count() < len(PACED)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, called what staff call it."""
        title = {"title": "Pace"}
        answer: HttpResponse = super().changelist_view(request, {**(extra_context or {}), **title})
        return answer

    @display(description="Channel", ordering="channel")
    def of(self, pace: Pace) -> str:
        """Which channel."""
        return pace.get_channel_display()

    @display(description="Limits")
    def limits(self, pace: Pace) -> str:
        """The limits in words."""
        words = pace.in_words
        return words[:1].upper() + words[1:]

    @display(description="Today")
    def today(self, pace: Pace) -> str:
        """How many have gone today, of how many may."""
        day = throttle.day_of(timezone.now())
        limit, taken = pace.limit_on(day), pace.taken_today if pace.day == day else 0
        return f"{taken:,} of {limit:,}" if limit is not None else f"{taken:,}"

    @display(description="In the last minute")
    def now(self, pace: Pace) -> str:
        """How many a second it hands over."""
        rate = progress.rate_of_channel(pace.channel, at=timezone.now())
        return f"{rate:,.1f} a second" if rate else "Nothing"
