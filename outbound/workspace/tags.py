"""The pages of tags."""

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from audiences.models import Audience, CompanyTag, CustomerTag, Tag
from audiences.models.audience import TAG_ATTRIBUTES
from messaging.models import Message
from outbound.edits.admin import ChangeLogAdmin
from outbound.people.admin import count_related


class TagForm(forms.ModelForm):
    class Meta:
        model = Tag
        fields = ("name",)
        widgets = {"name": UnfoldAdminTextInputWidget()}


class TagAdmin(ChangeLogAdmin):
    """Tags of customers, companies and messages."""

    form = TagForm
    list_display = ("name", "customers_tagged", "companies_tagged")
    nothing_yet = (
        "Tags mark customers, companies and messages. Staff, imported files and your API add them; rules can use them."
    )
    search_fields = ("name",)
    ordering = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tag]:
        found = super().get_queryset(request)
        return found.annotate(
            on_customers=count_related(CustomerTag, "tag"), on_companies=count_related(CompanyTag, "tag")
        )

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """A tag that a rule uses is protected: without the tag, “is not” would match everyone."""
        deleted, counted, needed, protected = super().get_deleted_objects(objs, request)
        return deleted, counted, needed, [*protected, *(use for tag in objs for use in uses_of_tag(tag))]

    @display(description="Customers")
    def customers_tagged(self, tag: Tag) -> int:
        return tag.on_customers  # type: ignore[attr-defined]

    @display(description="Companies")
    def companies_tagged(self, tag: Tag) -> int:
        return tag.on_companies  # type: ignore[attr-defined]

    def save_model(self, request: HttpRequest, obj: Tag, form: Any, change: Any) -> None:
        obj.created_at = obj.created_at or timezone.now()
        super().save_model(request, obj, form, change)


def uses_of_tag(tag: Tag) -> list[str]:
    """Return the messages and segments with a rule about a tag."""
    audiences = Audience.objects.with_rule_about(tag, *TAG_ATTRIBUTES)
    messages = Message.objects.filter(audience__in=audiences).order_by("title")
    segments = audiences.segments().order_by("name")
    return [*(f"the message “{one}”" for one in messages), *(f"the segment “{one}”" for one in segments)]
