"""The pages of saved replies."""

from typing import Any

from django import forms
from django.http import HttpRequest
from django.utils.text import Truncator
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from messaging.models import SavedReply
from outbound.edits.admin import ChangeLogAdmin

EXAMPLE = "Hello {{ first_name | default: 'there' }},"
EXCERPT_LENGTH = 120


class SavedReplyForm(forms.ModelForm):
    class Meta:
        model = SavedReply
        fields = ("name", "body")
        widgets = {
            "name": UnfoldAdminTextInputWidget({"placeholder": "For example: Refund"}),
            "body": UnfoldAdminTextareaWidget({"rows": 10, "placeholder": EXAMPLE}),
        }
        help_texts = {
            "body": "Variables such as {{ first_name }} or {{ company.name }} are filled in when a teammate inserts the"
            " reply. A value that is not known is shown in square brackets."
        }


class SavedReplyAdmin(ChangeLogAdmin):
    """The list of saved replies and their form."""

    form = SavedReplyForm
    list_display = ("name", "excerpt")
    nothing_yet = (
        "A saved reply is a text that teammates insert into an answer. Its variables are filled in for the customer."
    )
    search_fields = ("name", "body")
    search_help_text = "Search by name or text"
    ordering = ("name",)

    @display(description="Text")
    def excerpt(self, reply: SavedReply) -> str:
        return Truncator(" ".join(reply.body.split())).chars(EXCERPT_LENGTH)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Return no bulk actions: replies are deleted one by one."""
        return {}
