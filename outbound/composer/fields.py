"""Fields of the composer's forms."""

import json
from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.db.models.functions import Lower
from unfold.widgets import UnfoldAdminSelectWidget

from audiences.models import MessageTopic


class JSONText(forms.CharField):
    """JSON in a hidden field that a script of the page maintains; invalid input is shown again as it was sent."""

    widget = forms.HiddenInput

    def __init__(self, *, nothing: str, label: str, describe: Callable[[Any], str]) -> None:
        super().__init__(required=False, label=label)
        self.nothing, self.describe_parsed = nothing, describe

    def describe(self, value: str) -> str:
        """Return the JSON in words, for the comparison of two versions."""
        try:
            return self.describe_parsed(self.clean(value))
        except ValidationError:
            return "Invalid"

    def clean(self, value: Any) -> Any:
        try:
            return json.loads(super().clean(value) or self.nothing)
        except (ValueError, RecursionError) as wrong:
            raise ValidationError("This could not be read. Reload the page and try again.") from wrong


class TopicField(forms.ModelChoiceField):
    """The topic of a message, or none."""

    def __init__(self) -> None:
        super().__init__(
            MessageTopic.objects.none(),
            required=False,
            label="Topic",
            empty_label="No topic",
            help_text="Customers who opted out of it do not get the message. This can’t be changed after it has"
            " been set live.",
            widget=UnfoldAdminSelectWidget(),
            error_messages={"invalid_choice": "This topic cannot be chosen. Choose another."},
        )

    def offer(self, *, kept: int | None) -> None:
        """Offer the topics for new messages, and the one that the message has already."""
        self.queryset = MessageTopic.objects.filter(Q(is_archived=False) | Q(pk=kept)).order_by(Lower("name"))
