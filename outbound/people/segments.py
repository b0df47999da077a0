"""Segments: named audiences, edited with the rule builder of the composer."""

import json
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from audiences.customer_counts import count_matching, count_matching_within, count_segment
from audiences.models import Audience, SegmentSize
from audiences.models.audience import SEGMENT_ATTRIBUTES
from audiences.rules import RuleError
from messaging.models import Message
from outbound.composer import options
from outbound.composer.audience_fields import RuleFields
from outbound.composer.confirm import COUNT_WITHIN
from outbound.composer.matching_people import matching_people
from outbound.console import change_message
from outbound.console.admin import ConsoleAdmin, answer_without_button, column
from outbound.console.wording import audience_lines, counted
from outbound.edits import autosave, conflicts
from outbound.edits.forms import form_name


class SegmentForm(RuleFields):
    """The name and rules of a segment."""

    name = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget({"placeholder": "For example: On trial"}))

    def __init__(self, *args: Any, segment: Audience, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.segment = segment

    def clean(self) -> dict[str, Any]:
        """Validate with the model: the name is unique, and no segment contains itself."""
        data = super().clean()
        if not {"name", "rules"} <= data.keys():
            return data
        self.segment.name, self.segment.rules = data["name"], data["rules"]
        try:
            self.segment.full_clean()
        except ValidationError as wrong:
            for field, sentences in wrong.message_dict.items():
                for sentence in sentences:
                    self.add_error("rules" if field == "rules" else "name", sentence)
        return data


class SegmentAdmin(ConsoleAdmin):
    """The list of segments and the page that edits one."""

    guards_edits = True
    list_display = ("name", "people", "rules_count", "changed")
    list_select_related = ("size",)
    changed = column("updated_at", called="Changed")
    nothing_yet = "A segment is a named set of rules. Use it as the audience of a message or to filter people."
    search_fields = ("name",)
    search_help_text = "Search by name"
    ordering = ("name",)
    actions = None
    own_pages = (
        ("forecast/", "count_people"),
        ("<path:object_id>/size/", "current_size"),
        ("<path:object_id>/discard/", "discard"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Audience]:
        """Audiences without a name belong to messages and are not segments."""
        return super().get_queryset(request).exclude(name="")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, {**(extra_context or {}), "title": "Segments"})

    def has_delete_permission(self, request: HttpRequest, obj: Audience | None = None) -> bool:
        """A segment is deleted on its own page, which lists its uses."""
        return False

    def get_list_display_links(self, request: HttpRequest, list_display: Any) -> Any:
        return super().get_list_display_links(request, list_display) if self.has_change_permission(request) else None

    @display(description="Rules")
    def rules_count(self, segment: Audience) -> str:
        count = count_rules(segment.rules)
        return counted(count, "rule", "rules") if count else "Everyone"

    @display(description="People")
    def people(self, segment: Audience) -> SafeString:
        """Return the kept size. The page counts outdated ones again after it is shown, since counting takes time."""
        return size_cell(segment, getattr(segment, "size", None), at=timezone.now())

    def current_size(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Count an outdated size again and return its cell."""
        segment, at = self.get_object_or_refuse(request, object_id, to="view"), timezone.now()
        try:
            return HttpResponse(size_cell(segment, count_segment(segment, at=at, within=COUNT_WITHIN), at=at))
        except RuleError:
            return HttpResponse(render_to_string("outbound/people/segment_size.html"))

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        return self.form_page(request, Audience())

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return self.form_page(request, self.get_object_or_refuse(request, object_id))

    def form_page(self, request: HttpRequest, segment: Audience) -> HttpResponse:
        """Show the form, and save a valid one."""
        is_new = segment.pk is None
        before = change_message.segment_fields(segment)
        initial = {"name": segment.name, "rules": json.dumps(segment.rules)}
        title = segment.name or "New segment"
        posted = request.POST or None
        with transaction.atomic():
            if not is_new and posted is not None:
                # Locked and read again, so that its version can be compared with the page's.
                segment = get_object_or_404(Audience.objects.select_for_update(), pk=segment.pk)
                before = change_message.segment_fields(segment)
                initial = {"name": segment.name, "rules": json.dumps(segment.rules)}
                current = SegmentForm(initial=initial, segment=segment)
                posted, conflict = conflicts.resolve(request.POST, current=current)
                if conflict:
                    return conflicts.conflict_page(self, request, conflict, row=segment)
            form = SegmentForm(posted, initial=initial, segment=segment)
            is_saved = posted is not None and form.is_valid()
            if is_saved:
                segment.save()
                if is_new:
                    self.log_addition(request, segment, "Created the segment")
                elif changed := change_message.differences(before, change_message.segment_fields(segment)):
                    self.note(request, segment, f"Changed the segment. {changed}")
        if is_saved:
            autosave.note_saved(request, form_name("audience", segment), at=timezone.now())
            messages.success(request, f"The segment “{segment}” is saved.")
            return HttpResponseRedirect(reverse("admin:audiences_audience_change", args=[segment.pk]))
        return self.page(
            request,
            "outbound/people/segment.html",
            crumb="New segment" if is_new else "",
            title=title,
            original=None if is_new else segment,
            form=form,
            open_form=None
            if is_new
            else autosave.open_form(request, form_name("audience", segment), at=timezone.now()),
            seen="" if is_new else conflicts.version_of(form),
            offer=options.rule_builder(form["rules"].value()),
            place=form.place if form.is_bound else "",
            uses=[] if is_new else uses_of_segment(segment),
        )

    def count_people(self, request: HttpRequest) -> HttpResponse:
        """Count the customers who match the rules of the form, which need not be saved."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = SegmentForm(request.POST or None, segment=Audience())
        form.is_valid()
        context: dict[str, Any] = {"wrong": [str(sentence) for sentence in form.errors.get("rules", [])]}
        if form.is_bound and not context["wrong"]:
            try:
                tree = Audience(rules=form.cleaned_data["rules"]).tree
                at = timezone.now()
                is_exact = "exact" in request.GET
                found = (
                    count_matching(tree, at=at) if is_exact else count_matching_within(tree, at=at, within=COUNT_WITHIN)
                )
                context |= {
                    "lines": audience_lines(tree),
                    "count": found.people,
                    "is_exact": found.is_exact,
                    "matching": matching_people(request, tree, at=at, within=None if is_exact else COUNT_WITHIN),
                }
            except RuleError as wrong:
                context["wrong"] = [str(wrong)]
        return render(request, "outbound/people/segment_count.html", context)

    def discard(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Delete a segment, unless a message or segment uses it."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:audiences_audience_change", args=[object_id]))
        segment = self.get_object_or_refuse(request, object_id)
        if not super().has_delete_permission(request, segment):
            raise PermissionDenied
        if found := uses_of_segment(segment):
            names = ", ".join(f"“{use}”" for use, _ in found)
            messages.error(request, f"This segment is used by {names}. Remove it there first.")
            return HttpResponseRedirect(reverse("admin:audiences_audience_change", args=[segment.pk]))
        with transaction.atomic():
            self.log_deletions(request, Audience.objects.filter(pk=segment.pk))
            segment.delete()
        messages.success(request, f"The segment “{segment.name}” is deleted.")
        return HttpResponseRedirect(reverse("admin:audiences_audience_changelist"))


def size_cell(segment: Audience, size: SegmentSize | None, *, at: datetime) -> SafeString:
    """Render the size of a segment, which asks for a new count if it is outdated."""
    context = {
        "segment": segment,
        "size": size,
        "when": autosave.moment_words(size.counted_at, at=at) if size else "",
        "outdated": size is None or not size.is_current(segment, at=at),
    }
    return render_to_string("outbound/people/segment_size.html", context)


def count_rules(stored: Any) -> int:
    """Count the rules in stored JSON without validating them."""
    if not isinstance(stored, dict):
        return 0
    return sum(count_rules(rule) if "rules" in rule else 1 for rule in stored.get("rules", []))


def uses_of_segment(segment: Audience) -> list[tuple[str, str]]:
    """Return the messages and segments with a rule about this segment, each with the URL of its page."""
    found = Audience.objects.with_rule_about(segment, *SEGMENT_ATTRIBUTES)
    return [
        *(
            (str(message), reverse("admin:messaging_message_change", args=[message.pk]))
            for message in Message.objects.filter(audience__in=found).order_by("title")
        ),
        *(
            (other.name, reverse("admin:audiences_audience_change", args=[other.pk]))
            for other in found.segments().order_by("name")
        ),
    ]
