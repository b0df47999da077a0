"""People picked from the list, ticked or all that it shows: tag or untag them, write to them, save them as a file."""

import json
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action

from audiences import intake
from audiences.intake.attributes.fields import replace_unstorable
from audiences.intake.tagging import add_tag_to_all, remove_tag_from_all
from audiences.models import Audience, Customer, Tag
from audiences.models.customers import CustomerQuerySet, Role
from audiences.rules import RuleError
from messaging import authoring
from messaging.models import Message, SendType
from outbound.console.admin import ConsoleAdmin, not_done, teammate
from outbound.console.idempotency import NotThisForm
from outbound.console.search import TOO_LONG, is_too_long
from outbound.console.timeouts import longer_statements
from outbound.console.wording import counted
from outbound.messages import recipients
from outbound.people.export import export

PAGES = (("picked/<slug:verb>/", "picked"),)
RULES = "rules"
MOST_TICKED = 1000
SEARCHED = ("name", "email", "user_id")
# A filter of the list, as the rule it stands for.
AS_RULE: dict[str, str] = {"role__exact": "role", "tags__id__exact": "tag", "segment": "segment"}


class PickingPages(ConsoleAdmin):
    """What can be done with people of the list."""

    actions = ("tag_ticked", "message_ticked", "export_ticked")

    def picked(self, request: HttpRequest, verb: str) -> HttpResponse:
        """Do it with all that the list shows, by the same address parameters, or with those ticked before."""
        if request.method != "POST":
            return not_done(request, f"{reverse('admin:audiences_customer_changelist')}?{request.GET.urlencode()}")
        if verb not in VERBS:
            raise Http404(f"People cannot be {verb}.")
        ticked = [int(key) for key in request.POST.getlist("pk")[:MOST_TICKED] if key.isdecimal() and len(key) < 19]
        with longer_statements():
            try:
                rows = Customer.objects.filter(pk__in=ticked) if ticked else self.shown_by(request)
            except IncorrectLookupParameters:
                messages.error(request, "A filter of the list has a value that makes no sense. Nothing was done.")
                return HttpResponseRedirect(people())
            return VERBS[verb](self, request, rows, ticked)

    def shown_by(self, request: HttpRequest) -> CustomerQuerySet:
        """Everybody the list shows by these address parameters."""
        if is_too_long(request.GET.get("q", "")):
            raise NotThisForm(TOO_LONG)
        return Customer.objects.filter(pk__in=self.get_changelist_instance(request).get_queryset(request).values("pk"))

    @action(description="Add or remove a tag")
    def tag_ticked(self, request: HttpRequest, queryset: Any) -> HttpResponse:
        """Tag those ticked."""
        return tag_them(self, request, queryset, keys(queryset))

    @action(description="Message these people")
    def message_ticked(self, request: HttpRequest, queryset: Any) -> HttpResponse:
        """Write to those ticked."""
        return message_them(self, request, queryset, keys(queryset))

    @action(description="Export")
    def export_ticked(self, request: HttpRequest, queryset: Any) -> Any:
        """Save those ticked as a file."""
        return export_them(self, request, queryset, keys(queryset))


def keys(ticked: Any) -> list[int]:
    """The keys of those ticked."""
    return list(ticked.order_by("pk").values_list("pk", flat=True)[:MOST_TICKED])


def people() -> str:
    """Where the list is."""
    return reverse("admin:audiences_customer_changelist")


def back_to(request: HttpRequest) -> HttpResponse:
    """The list, filtered as before."""
    query = request.GET.urlencode()
    return HttpResponseRedirect(f"{people()}?{query}" if query else people())


def must(request: HttpRequest, permission: str) -> None:
    """Let nobody else this far."""
    if not request.user.has_perm(permission):
        raise PermissionDenied


def tag_them(admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet, ticked: list[int]) -> HttpResponse:
    """Ask which tag, then put it on or take it off."""
    must(request, "audiences.change_customer")
    name, how = request.POST.get("tag", "").strip(), request.POST.get("how", "")
    wrong = ""
    if how in HOW:
        try:
            return HOW[how](admin, request, rows, name)
        except intake.Refused as no:
            wrong = str(no)
    return admin.page(
        request,
        "outbound/people_tag.html",
        title="Add or remove a tag",
        crumb="Add or remove a tag",
        ticked=ticked,
        who=counted(len(ticked), "person", "people") if ticked else "everybody the list shows",
        query=request.GET.urlencode(),
        name=name,
        wrong=wrong,
        tags=Tag.objects.order_by("name").values_list("name", flat=True)[:500],
    )


def put_on(admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet, name: str) -> HttpResponse:
    """Put a tag on them; a new name makes a new tag."""
    at = timezone.now()
    with transaction.atomic():
        label = intake.find_or_make_tag(name, at=at)
        count = add_tag_to_all(rows, label, at=at)
        admin.note(request, label, f"Tagged {counted(count, 'person', 'people')}")
    had = "" if count else " Everybody had it already."
    messages.success(request, f"{counted(count, 'person has', 'people have')} the tag “{label}” now.{had}")
    return back_to(request)


def take_off(admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet, name: str) -> HttpResponse:
    """Take a tag off them."""
    label = Tag.objects.filter(name__iexact=replace_unstorable(name)).first() if name else None
    if label is None:
        raise intake.Refused(f"There is no tag “{name}”." if name else "Choose a tag.")
    with transaction.atomic():
        count = remove_tag_from_all(rows, label)
        admin.note(request, label, f"Took it off {counted(count, 'person', 'people')}")
    messages.success(request, f"The tag “{label}” is off {counted(count, 'person', 'people')}.")
    return back_to(request)


HOW = {"add": put_on, "remove": take_off}


def export_them(_admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet, _ticked: list[int]) -> Any:
    """Save them as a file, which the log tells: it takes what is known of people elsewhere."""
    must(request, "audiences.change_customer")
    many = rows.filter(archived_at=None).count()
    LogEntry.objects.create(
        user=teammate(request),
        content_type=ContentType.objects.get_for_model(Customer),
        object_repr="People",
        action_flag=CHANGE,
        change_message=f"Exported {counted(many, 'person', 'people')}",
    )
    return export(rows, at=timezone.now())


def message_them(admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet, ticked: list[int]) -> HttpResponse:
    """Begin a draft to them: by the rules and filters of the list, or for those ticked by a tag made for it."""
    must(request, "messaging.add_message")
    at = timezone.now()
    try:
        with transaction.atomic():
            rules = by_tag(admin, request, rows) if ticked else rules_of(request.GET)
            draft = Message(title="Untitled message", send_type=SendType.ONE_OFF, created_by=teammate(request))
            draft.audience = Audience.objects.create(rules=rules)
            draft.save()
            authoring.revise(draft, subject="", body="", by=teammate(request), at=at)
            admin.log_addition(request, draft, "Began it from People")
    except (ValidationError, RuleError) as no:
        messages.error(request, " ".join(no.messages) if isinstance(no, ValidationError) else str(no))
        return back_to(request)
    return HttpResponseRedirect(reverse("admin:messaging_message_change", args=[draft.pk]))


def by_tag(admin: ConsoleAdmin, request: HttpRequest, rows: CustomerQuerySet) -> dict[str, Any]:
    """Rules that mean just these people, by a tag of their own."""
    must(request, "audiences.change_customer")
    at = timezone.now()
    label = intake.find_or_make_tag(f"Picked {timezone.localtime(at):%-d %b %Y, %H:%M:%S}", at=at)
    admin.note(request, label, f"Tagged {counted(add_tag_to_all(rows, label, at=at), 'person', 'people')}")
    rules: list[Any] = [rule("tag", label.pk)]
    if rows.filter(role=Role.LEAD).exists():
        # Without a rule on the role, leads would be left out.
        rules.append({"match": "any", "rules": [rule("role", role.value) for role in Role]})
    return {"match": "all", "rules": rules}


def rules_of(given: QueryDict) -> dict[str, Any]:
    """The list's rules, filters and search, as the rules of an audience."""
    chosen = {attribute: str(given[name]) for name, attribute in AS_RULE.items() if given.get(name)}
    rules: list[Any] = [
        rule(attribute, int(value) if value.isdecimal() else value) for attribute, value in chosen.items()
    ]
    rules += searched_for(given.get("q", "").replace("\0", ""))
    asked = Audience(rules=asked_for(given))
    if not rules:
        return asked.tree.as_json()
    if asked.tree.rules:
        rules.insert(0, asked.tree.as_json())
    return {"match": "all", "rules": rules}


def is_address(search: str) -> bool:
    """Whether what is searched for is one address, and not words."""
    return "@" in search and len(search.split()) == 1


def searched_for(search: str) -> list[Any]:
    """What the list is searched for, as rules that mean the same people."""
    if is_address(search) and recipients.customer_ids_matching(search.strip()):
        exact = [rule("user_id", search.strip()), rule("email", search.strip().lower())]
        return [{"match": "any", "rules": exact}]
    return [{"match": "any", "rules": [rule(name, word, "contains") for name in SEARCHED]} for word in search.split()]


def asked_for(given: QueryDict) -> Any:
    """The rules in an address; RuleError later where they are none."""
    found = json_of(given.get(RULES, ""))
    return {"match": "all", "rules": []} if found in (None, {}) else found


def json_of(text: str) -> Any:
    """What a JSON text says: None where there is none, a text where it cannot be read, which no rules are."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return "unreadable"


def rule(attribute: str, value: Any, operator: str = "is") -> dict[str, Any]:
    """One rule as it is stored."""
    return {"attribute": attribute, "operator": operator, "value": value}


VERBS = {"tag": tag_them, "message": message_them, "export": export_them}
