"""The pages of topics."""

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from audiences.models import MessageTopic, TopicOptOut
from messaging.models import Message
from outbound.console.formatting import chip
from outbound.edits.admin import ChangeLogAdmin
from outbound.people.admin import count_related


class TopicForm(forms.ModelForm):
    class Meta:
        model = MessageTopic
        fields = ("name", "description", "is_archived")
        widgets = {
            "name": UnfoldAdminTextInputWidget(),
            "description": UnfoldAdminTextInputWidget(),
            "is_archived": UnfoldBooleanWidget(),
        }


class TopicAdmin(ChangeLogAdmin):
    """Topics of messages. A topic is archived, never deleted, because opt-outs hold."""

    form = TopicForm
    list_display = ("name", "description", "messages_about", "opted_out", "state")
    nothing_yet = (
        "Messages can have a topic, such as “Tips”. A customer who unsubscribes then chooses between the topic and all"
        " emails."
    )
    search_fields = ("name", "description")
    search_help_text = "Search by name"
    ordering = ("is_archived", "name")

    def has_delete_permission(self, request: HttpRequest, obj: MessageTopic | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[MessageTopic]:
        found = super().get_queryset(request)
        return found.annotate(
            with_messages=count_related(Message, "topic"), with_opt_outs=count_related(TopicOptOut, "topic")
        )

    @display(description="Messages")
    def messages_about(self, topic: MessageTopic) -> int:
        return topic.with_messages  # type: ignore[attr-defined]

    @display(description="Opted out")
    def opted_out(self, topic: MessageTopic) -> int:
        return topic.with_opt_outs  # type: ignore[attr-defined]

    @display(description="State", ordering="is_archived")
    def state(self, topic: MessageTopic) -> str:
        return chip("Archived", "plain") if topic.is_archived else chip("In use", "good")

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Return no bulk actions: a topic concerns every customer."""
        return {}
