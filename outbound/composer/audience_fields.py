"""The fields of an audience: its rules, and when the message is delivered to it."""

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from audiences.models import Audience, Workspace
from messaging import delivery_window
from messaging.models import Channel, Checking, Message, WindowZone
from outbound.composer.fields import JSONText
from outbound.console.wording import rules_in_one_line

RULE_PATH = re.compile(r"^(?:Rule|Group) ([\d.]+)")


def window_in_words(stored: Any) -> str:
    try:
        return delivery_window.describe_window(delivery_window.parse_window(stored), Workspace.current().zone)
    except delivery_window.WindowError as wrong:
        return str(wrong)


class RuleFields(forms.Form):
    """The rules."""

    rules = JSONText(nothing="{}", label="Filters", describe=rules_in_one_line)

    def clean(self) -> dict[str, Any]:
        """Refuse invalid rules; the error names the invalid rule."""
        data = super().clean() or {}
        if "rules" in data:
            # An unsaved row, so that a segment is not mistaken for a part of itself.
            audience = Audience(rules=data["rules"])
            self.add_errors_of(audience, "rules")
            data["rules"] = audience.rules
        return data

    def add_errors_of(self, row: Audience | Message, field: str) -> None:
        """Validate an unsaved row and add its errors to the field."""
        try:
            row.clean()
        except ValidationError as wrong:
            found: list[str] = wrong.message_dict.get(field, wrong.messages)
            for sentence in found:
                self.add_error(field, sentence)

    @property
    def place(self) -> str:
        """Return the path of the invalid rule in the rule builder, such as "1.2", or ""."""
        sentences: list[Any] = list(self.errors.get("rules", []))
        found = RULE_PATH.match(str(sentences[0])) if sentences else None
        return found[1].rstrip(".") if found else ""


class AudienceFields(RuleFields):
    """Step 2: the rules and the delivery times."""

    window = JSONText(nothing="[]", label="Delivery times", describe=window_in_words)
    window_zone = forms.ChoiceField(
        choices=WindowZone, widget=forms.RadioSelect, required=False, label="Time zone of the delivery times"
    )
    during_quiet_hours = forms.BooleanField(
        required=False,
        label="Also during quiet hours",
        help_text="For urgent messages only: people may get it at night.",
        widget=forms.CheckboxInput,
    )
    checking = forms.ChoiceField(
        choices=Checking, widget=forms.RadioSelect, required=False, label="When the filters are checked"
    )

    def clean(self) -> dict[str, Any]:
        """Refuse invalid delivery times, too."""
        data = super().clean()
        data["window_zone"] = data.get("window_zone") or WindowZone.WORKSPACE
        data["checking"] = data.get("checking") or Checking.HOURLY
        if "window" in data:
            self.add_errors_of(Message(window=data["window"], channel=Channel.EMAIL), "window")
        return data

    @property
    def has_quiet_hours(self) -> bool:
        """Whether the workspace has quiet hours."""
        return Workspace.current().quiet_hours is not None
