"""Bulk actions of the list of people, on ticked rows or the whole filtered list: tag, message, segment, export."""

import json
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action

from audiences import intake
from audiences.intake.attributes.fields import replace_unstorable
from audiences.intake.tags import add_tag_to_all, remove_tag_from_all
from audiences.models import Audience, Customer, Tag
from audiences.models.customers import CustomerQuerySet, Role
from audiences.rules import RuleError
from messaging.models import SendType
from outbound.composer.tags import offered_names
from outbound.composer.views import create_segment
from outbound.console.admin import ConsoleAdmin, answer_without_button, teammate
from outbound.console.idempotency import RefusedForm
from outbound.console.search import TOO_LONG, is_too_long
from outbound.console.timeouts import longer_statements
from outbound.console.wording import counted
from outbound.messages import recipients
from outbound.people.export import export

PAGES = (("picked/<slug:verb>/", "picked"),)
RULES = "rules"
CUSTOMERS_TICKED_MAX = 1000
# Web servers refuse longer ones.
MAX_ADDRESS_LENGTH = 4_000
SEARCHED = ("name", "email", "user_id")
# Filters of the list, and the attribute of the rule that means the same.
FILTER_ATTRIBUTES: dict[str, str] = {"role__exact": "role", "tags__id__exact": "tag", "segment": "segment"}


class PickingPages(ConsoleAdmin):
    """The bulk actions, as admin actions and as pages."""

    actions: tuple[str, ...] = ("tag_ticked", "message_ticked", "export_ticked")

    def picked(self, request: HttpRequest, verb: str) -> HttpResponse:
        """Apply an action to the rows ticked on an earlier page, or to the list that the address parameters filter."""
        if request.method != "POST":
            return answer_without_button(
                request, f"{reverse('admin:audiences_customer_changelist')}?{request.GET.urlencode()}"
            )
        if verb not in ACTIONS:
            raise Http404(f"There is no action “{verb}” for people.")
        ticked = [
            int(key) for key in request.POST.getlist("pk")[:CUSTOMERS_TICKED_MAX] if key.isdecimal() and len(key) < 19
        ]
        with longer_statements():
            try:
                rows = Customer.objects.filter(pk__in=ticked) if ticked else self.filtered_customers(request)
            except IncorrectLookupParameters:
                messages.error(request, "A filter of the list has an invalid value. Nothing was changed.")
                return HttpResponseRedirect(people_url())
            return ACTIONS[verb](self, request, rows, ticked)

    def filtered_customers(self, request: HttpRequest) -> CustomerQuerySet:
        """Return every customer in the list that these address parameters filter."""
        if is_too_long(request.GET.get("q", "")):
            raise RefusedForm(TOO_LONG)
        return Customer.objects.filter(pk__in=self.get_changelist_instance(request).get_queryset(request).values("pk"))

    @action(description="Add or remove a tag")
    def tag_ticked(self, request: HttpRequest, queryset: Any) -> HttpResponse:
        return tag_people(self, request, queryset, ticked_ids(queryset))

    @action(description="Message these people")
    def message_ticked(self, request: HttpRequest, queryset: Any) -> HttpResponse:
        return message_people(self, request, queryset, ticked_ids(queryset))

    @action(description="Export")
    def export_ticked(self, request: HttpRequest, queryset: Any) -> Any:
        return export_people(self, request, queryset, ticked_ids(queryset))


def ticked_ids(ticked: Any) -> list[int]:
    return list(ticked.order_by("pk").values_list("pk", flat=True)[:CUSTOMERS_TICKED_MAX])


def people_url() -> str:
    return reverse("admin:audiences_customer_changelist")


def back_to(request: HttpRequest) -> HttpResponse:
    """Redirect to the list with the same filters."""
    query = request.GET.urlencode()
    return HttpResponseRedirect(f"{people_url()}?{query}" if query else people_url())


def require_permission(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


def tag_people(admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet, ticked: list[int]) -> HttpResponse:
    """Ask for a tag, then add it to these customers or remove it."""
    require_permission(request, "audiences.change_customer")
    name, how = request.POST.get("tag", "").strip(), request.POST.get("how", "")
    wrong = ""
    if how in TAG_ACTIONS:
        try:
            return TAG_ACTIONS[how](admin, request, rows, name)
        except intake.Refused as no:
            wrong = str(no)
    query = f"?{request.GET.urlencode()}" if request.GET else ""
    return admin.page(
        request,
        "outbound/people/tag.html",
        title="Add or remove a tag",
        crumb="Add or remove a tag",
        ticked=ticked,
        who=counted(len(ticked), "person", "people") if ticked else "everyone in the list",
        address=f"{reverse('admin:customer_picked', args=['tag'])}{query}",
        back=f"{people_url()}{query}",
        name=name,
        wrong=wrong,
        tags=offered_names(),
    )


def add_tag(admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet, name: str) -> HttpResponse:
    """Add a tag to these customers. An unknown name creates a tag."""
    at = timezone.now()
    with transaction.atomic():
        label = intake.find_or_make_tag(name, at=at)
        count = add_tag_to_all(rows, label, at=at)
        admin.note(request, label, f"Tagged {counted(count, 'person', 'people')}")
    had = "" if count else " Everyone already had it."
    messages.success(request, f"Added the tag “{label}” to {counted(count, 'person', 'people')}.{had}")
    return back_to(request)


def remove_tag(admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet, name: str) -> HttpResponse:
    label = Tag.objects.filter(name__iexact=replace_unstorable(name)).first() if name else None
    if label is None:
        raise intake.Refused(f"The tag “{name}” does not exist." if name else "Choose a tag.")
    with transaction.atomic():
        count = remove_tag_from_all(rows, label)
        admin.note(request, label, f"Removed the tag from {counted(count, 'person', 'people')}")
    messages.success(request, f"Removed the tag “{label}” from {counted(count, 'person', 'people')}.")
    return back_to(request)


TAG_ACTIONS = {"add": add_tag, "remove": remove_tag}


def export_people(_admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet, _ticked: list[int]) -> Any:
    """Export these customers. The log records it, because the data leaves the system."""
    require_permission(request, "audiences.change_customer")
    many = rows.filter(archived_at=None).count()
    LogEntry.objects.create(
        user=teammate(request),
        content_type=ContentType.objects.get_for_model(Customer),
        object_repr="People",
        action_flag=CHANGE,
        change_message=f"Exported {counted(many, 'person', 'people')}",
    )
    return export(rows, at=timezone.now())


def message_people(
    admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet, ticked: list[int]
) -> HttpResponse:
    """Open the composer for these people: by the rules and filters of the list, or by a new tag for ticked rows."""
    require_permission(request, "messaging.add_message")
    try:
        with transaction.atomic():
            rules = rules_by_new_tag(admin, request, rows) if ticked else list_rules(request.GET, rows)
            Audience(rules=rules).clean()
            address = composer_address(rules)
    except (ValidationError, RuleError) as no:
        messages.error(request, " ".join(no.messages) if isinstance(no, ValidationError) else str(no))
        return back_to(request)
    return HttpResponseRedirect(address)


def composer_address(rules: dict[str, Any]) -> str:
    """Return the URL of the composer for a new one-off with these rules."""
    given = {"send_type": SendType.ONE_OFF, "rules": json.dumps(rules, separators=(",", ":"))}
    address = f"{reverse('admin:messaging_message_add')}?{urlencode(given)}"
    if len(address) > MAX_ADDRESS_LENGTH:
        raise ValidationError("These filters are too long. Save them as a segment and filter the list by it.")
    return address


def keep_segment(admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet, _ticked: list[int]) -> HttpResponse:
    """Save the rules, filters and search of the list as a segment. A refusal shows the field for its name again."""
    require_permission(request, "audiences.add_audience")
    given, name = request.GET.copy(), request.POST.get("name", "").strip()
    # The rules may have changed since the list was shown.
    given[RULES] = request.POST.get(RULES, given.get(RULES, ""))
    try:
        segment = create_segment(admin, request, name=name, rules=filtering_rules(given, rows))
    except (ValidationError, RuleError) as no:
        wrong = no.messages[0] if isinstance(no, ValidationError) else str(no)
        context = {"query": request.GET.urlencode(), "name": name, "wrong": wrong}
        return render(request, "outbound/people/keep_segment.html", context)
    messages.success(request, f"The segment “{segment}” is saved.")
    address = f"{people_url()}?{given.urlencode()}"
    return HttpResponse(headers={"HX-Redirect": address})


def rules_by_new_tag(admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet) -> dict[str, Any]:
    """Tag these customers with a new tag, and return rules that match the tag."""
    require_permission(request, "audiences.change_customer")
    at = timezone.now()
    label = intake.find_or_make_tag(f"Picked {timezone.localtime(at):%-d %b %Y, %H:%M:%S}", at=at)
    admin.note(request, label, f"Tagged {counted(add_tag_to_all(rows, label, at=at), 'person', 'people')}")
    messages.info(request, f"These people have the new tag “{label}”, which the filter below uses.")
    return {"match": "all", "rules": [stored_rule("tag", label.pk), *role_rules(rows)]}


def role_rules(rows: CustomerQuerySet) -> list[Any]:
    """Return a rule that includes leads if some of these customers are leads: other rules match only users."""
    if not rows.filter(role=Role.LEAD).exists():
        return []
    return [{"match": "any", "rules": [stored_rule("role", role.value) for role in Role]}]


def list_rules(given: QueryDict, rows: CustomerQuerySet) -> dict[str, Any]:
    """Convert the rules, filters and search of the list, whose customers are `rows`, to rules of an audience."""
    chosen = {attribute: str(given[name]) for name, attribute in FILTER_ATTRIBUTES.items() if given.get(name)}
    rules: list[Any] = [
        stored_rule(attribute, int(value) if value.isdecimal() else value) for attribute, value in chosen.items()
    ]
    rules += search_rules(given.get("q", "").replace("\0", ""))
    asked = Audience(rules=stored_rules(given))
    if not rules:
        return asked.tree.as_json()
    if asked.tree.rules:
        rules.insert(0, asked.tree.as_json())
    elif "role" not in chosen:
        rules += role_rules(rows)
    return {"match": "all", "rules": rules}


def filtering_rules(given: QueryDict, rows: CustomerQuerySet) -> dict[str, Any]:
    """Return the rules of a list that is filtered; ValidationError if it shows everyone."""
    rules = list_rules(given, rows)
    if not rules["rules"]:
        raise ValidationError("The list shows everyone. Filter it first.")
    return rules


def is_address(search: str) -> bool:
    """Tell whether a search term is a single email address."""
    return "@" in search and len(search.split()) == 1


def search_rules(search: str) -> list[Any]:
    """Convert a search term to rules that match the same people as the search of the list."""
    if is_address(search) and recipients.customer_ids_matching(search.strip()):
        exact = [stored_rule("user_id", search.strip()), stored_rule("email", search.strip().lower())]
        return [{"match": "any", "rules": exact}]
    return [
        {"match": "any", "rules": [stored_rule(name, word, "contains") for name in SEARCHED]} for word in search.split()
    ]


def stored_rules(given: QueryDict) -> Any:
    """Return the rules in an address as stored JSON. Invalid ones raise RuleError when they are compiled."""
    found = parse_json(given.get(RULES, ""))
    return {"match": "all", "rules": []} if found in (None, {}) else found


def parse_json(text: str) -> Any:
    """Parse JSON. Returns None for empty text, and a string for invalid JSON: a string is never valid rules."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return "unreadable"


def stored_rule(attribute: str, value: Any, operator: str = "is") -> dict[str, Any]:
    return {"attribute": attribute, "operator": operator, "value": value}


ACTIONS = {"tag": tag_people, "message": message_people, "segment": keep_segment, "export": export_people}
