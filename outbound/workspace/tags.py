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
from outbound.console.change_message import ToldAdmin
from outbound.people.admin import counting


class TagForm(forms.ModelForm):
    """A tag; when it was made is not typed."""

    class Meta:
        model = Tag
        fields = ("name",)
        widgets = {"name": UnfoldAdminTextInputWidget()}


class TagAdmin(ToldAdmin):
    """Tags on customers and companies."""

    form = TagForm
    list_display = ("name", "customers_tagged", "companies_tagged")
    nothing_yet = "A tag marks customers and companies, by hand, by file or by your API. Rules can ask for it."
    search_fields = ("name",)
    ordering = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tag]:
        """Tags, with how many customers and companies have each."""
        found = super().get_queryset(request)
        return found.annotate(on_customers=counting(CustomerTag, "tag"), on_companies=counting(CompanyTag, "tag"))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What goes with them. One that rules ask about stays: without it, “is not” would match everybody."""
        deleted, counted, needed, protected = super().get_deleted_objects(objs, request)
        return deleted, counted, needed, [*protected, *(use for tag in objs for use in uses(tag))]

    @display(description="Customers")
    def customers_tagged(self, tag: Tag) -> int:
        """How many customers have it."""
        return tag.on_customers  # type: ignore[attr-defined]

    @display(description="Companies")
    def companies_tagged(self, tag: Tag) -> int:
        """How many companies have it."""
        return tag.on_companies  # type: ignore[attr-defined]

    def save_model(self, request: HttpRequest, obj: Tag, form: Any, change: Any) -> None:
        """Note when it was made."""
        obj.created_at = obj.created_at or timezone.now()
        super().save_model(request, obj, form, change)


def uses(tag: Tag) -> list[str]:
    """The messages and segments with a rule about a tag."""
    asking = Audience.objects.with_rule_about(tag, *TAG_ATTRIBUTES)
    messages = Message.objects.filter(audience__in=asking).order_by("title")
    segments = asking.segments().order_by("name")
    return [*(f"the message “{one}”" for one in messages), *(f"the segment “{one}”" for one in segments)]
