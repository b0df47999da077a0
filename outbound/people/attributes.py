"""Custom attributes: the catalogue, and the change of an attribute's kind after a dry run (behaviour 3)."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import display

from audiences.intake.attributes import kind_conversion
from audiences.models import CustomAttribute
from audiences.models.catalogue import KINDS
from audiences.rules import KIND_NAMES, Kind
from delivery import tasks
from delivery.maintenance import attribute_kinds, retirement
from messaging.models import Message, State
from outbound.console.admin import column
from outbound.console.change_message import change_text
from outbound.console.wording import counted
from outbound.people import refused_names
from outbound.people.retirement import InUseOrRetired, RetirementPages, use_rows

FINISHED_STATES = (State.STOPPED, State.SENT)


@dataclass(frozen=True, slots=True)
class Use:
    """A message or segment with a rule about the attribute. `broken` says why the new kind does not fit its rules."""

    name: str
    address: str
    blocks: bool
    broken: str


class CustomAttributeAdmin(refused_names.RefusedNamesPages):
    """Custom attributes: the list, and a page with uses, the dry run and the change of kind."""

    list_display = ("name", "label", "owner_type", "kind_name", "since", "state")
    own_pages = (*refused_names.PAGES, *RetirementPages.own_pages)
    since = column("created_at", called="Since")
    nothing_yet = "Custom attributes come from the data that your API, your site and your files send."
    list_filter = ("scope", "kind", InUseOrRetired)
    search_fields = ("name", "label")
    search_help_text = "Search by name"
    ordering = ("scope", "name")

    @display(description="Kind", ordering="kind")
    def kind_name(self, attribute: CustomAttribute) -> str:
        return attribute.get_kind_display()

    @display(description="Of", ordering="scope")
    def owner_type(self, attribute: CustomAttribute) -> str:
        return attribute.get_scope_display()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show one attribute. A POST changes its kind."""
        attribute = self.get_object_or_refuse(request, object_id, to="view")
        can_change = self.has_change_permission(request, attribute)
        if request.method == "POST" and not can_change:
            raise PermissionDenied
        if request.method == "POST" and "label" in request.POST:
            self.change_label(request, attribute, request.POST["label"].strip())
            return HttpResponseRedirect(reverse("admin:audiences_customattribute_change", args=[attribute.pk]))
        asked = request.POST.get("kind") or request.GET.get("kind") or ""
        change = attribute.kind_changes.order_by("-pk").first()
        under_way = change is not None and change.ended_at is None
        may_become = asked in dict(KINDS) and asked != attribute.kind and can_change and not under_way
        to = Kind(asked) if may_become else None
        if request.method == "POST" and to and self.change_kind(request, attribute, to=to):
            return HttpResponseRedirect(reverse("admin:audiences_customattribute_change", args=[attribute.pk]))
        uses, used = rule_uses(attribute, to=to), retirement.uses_of(attribute)
        return self.page(
            request,
            "outbound/people/attribute.html",
            title=attribute.label or attribute.name,
            original=attribute,
            can_change=can_change and not under_way,
            change=change,
            under_way=under_way,
            becoming=KIND_NAMES[Kind(change.to)] if change else "",
            now=KIND_NAMES[Kind(attribute.kind)],
            kinds=[(kind, KIND_NAMES[Kind(kind)]) for kind, _ in KINDS if kind != attribute.kind],
            to=to,
            becomes=KIND_NAMES[to] if to else "",
            forecast=kind_conversion.dry_run(attribute, to=to) if to else None,
            uses=use_rows([*used.messages, *used.segments]),
            blocking=use_rows(used.blocking),
            blocked=[use for use in uses if use.blocks and use.broken],
            warned=[use for use in uses if use.broken and not use.blocks],
            log=self.history_of(attribute),
        )

    def change_label(self, request: HttpRequest, attribute: CustomAttribute, label: str) -> None:
        """Change the display name; show the reason if it is not valid."""
        before, attribute.label = attribute.label, label
        try:
            attribute.clean_fields()
        except ValidationError as wrong:
            messages.error(request, f"Display name: {' '.join(wrong.messages)}")
            return
        if label != before:
            with transaction.atomic():
                attribute.save(update_fields=["label"])
                self.note(request, attribute, change_text("Display name", before, label))
        messages.success(request, f"“{attribute.name}” is shown as “{label or attribute.name}”.")

    def start_kind_change(
        self, request: HttpRequest, attribute: CustomAttribute, *, to: Kind, lose_at_most: int
    ) -> bool:
        """Have a worker change the kind: the attribute has too many values for one request."""
        if any(use.blocks and use.broken for use in rule_uses(attribute, to=to)):
            messages.error(request, "Nothing was changed: the messages and segments use_rows below would break.")
            return False
        shown = request.POST.get("values", "")
        try:
            with transaction.atomic():
                change = attribute_kinds.request_change(
                    attribute,
                    to=to,
                    values=int(shown) if shown.isdecimal() and len(shown) < 19 else 0,
                    lose_at_most=lose_at_most,
                    at=timezone.now(),
                )
                words = change_text("Kind", KIND_NAMES[Kind(attribute.kind)], KIND_NAMES[to])
                self.note(request, attribute, f"{words}, by a worker")
                transaction.on_commit(lambda: tasks.enqueue_kind_change(change.pk))
        except attribute_kinds.ChangeInProgress:
            messages.error(request, f"“{attribute.name}” is already being changed.")
            return False
        return True

    def change_kind(self, request: HttpRequest, attribute: CustomAttribute, *, to: Kind) -> bool:
        """Change the kind, unless a use would break or more values would be lost than the page showed."""
        shown, was = request.POST.get("lost", ""), Kind(attribute.kind)
        lose_at_most = int(shown) if shown.isdecimal() and len(shown) < 19 else 0
        if kind_conversion.has_more_than(attribute_kinds.MAX_VALUES_PER_REQUEST, attribute):
            return self.start_kind_change(request, attribute, to=to, lose_at_most=lose_at_most)
        try:
            with transaction.atomic():
                attribute_kinds.lock_rules()
                if any(use.blocks and use.broken for use in rule_uses(attribute, to=to)):
                    messages.error(
                        request, "Nothing was changed: the messages and segments use_rows below would break."
                    )
                    return False
                done = kind_conversion.convert_attribute(attribute, to=to, lose_at_most=lose_at_most)
                words = f"{counted(done.kept, 'value', 'values')} kept, {done.lost:,} became unknown"
                self.note(request, attribute, f"{change_text('Kind', KIND_NAMES[was], KIND_NAMES[to])}. {words}")
        except kind_conversion.TooMuchLost as too_much:
            messages.error(
                request,
                f"Nothing was changed: {counted(too_much.lost, 'value', 'values')} would now become unknown, "
                f"but the page showed {lose_at_most:,}. Run the dry run again.",
            )
            return False
        kind_conversion.convert_late_writes(attribute, was=was)
        messages.success(request, f"“{attribute.name}” is now {KIND_NAMES[to]}. {words}.")
        return True


def rule_uses(attribute: CustomAttribute, *, to: Kind | None) -> list[Use]:
    """Return the messages and segments with a rule about the attribute, and what the new kind would break in each."""
    kinds = attribute_kinds.catalogue_with_kind(
        CustomAttribute.objects.catalogue(), attribute, to=to or Kind(attribute.kind)
    )
    found = {audience.pk: audience for audience in attribute_kinds.audiences_using(attribute)}
    uses = [
        Use(
            f"the {message.get_state_display().lower()} message “{message}”",
            reverse("admin:messaging_message_change", args=[message.pk]),
            blocks=message.state in attribute_kinds.STATES_USING_RULES,
            broken=""
            if message.state in FINISHED_STATES
            else attribute_kinds.rule_error(found[message.audience_id or 0], kinds),
        )
        for message in Message.objects.filter(audience__in=found).order_by("title")
    ]
    return uses + [
        Use(
            f"the segment “{segment}”",
            reverse("admin:audiences_audience_change", args=[segment.pk]),
            blocks=True,
            broken=attribute_kinds.rule_error(segment, kinds),
        )
        for segment in sorted(found.values(), key=lambda one: one.name)
        if segment.name
    ]
