"""The command palette (Ctrl+K): people, messages, segments, pages and actions, as far as the teammate's role allows."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from audiences.models import Customer
from audiences.rules import Kind
from outbound import roles
from outbound.console.lookups import VIEW_PERMISSIONS, find_names
from outbound.console.navigation import INBOX_ENTRY, SECTIONS
from outbound.console.search import TOO_LONG, is_too_long

PEOPLE_SHOWN, NAMES_SHOWN, PAGES_SHOWN, ACTIONS_FOR = 6, 4, 5, 2
# “Send a message to Ada” and “Why did Ada not get …” can be typed as they are shown.
VERBS = re.compile(
    r"^(?P<verb>send|message|write|why)(?:\s+(?:a|message|to|did|does|doesn.t|didn.t))*\s+(?P<rest>\S.*?)"
    r"(?:\s+not(?:\s+get.*)?)?$",
    re.IGNORECASE,
)
# Title, icon, URL and permission of the actions that are not about a person.
ACTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("New message", "edit", "admin:messaging_message_add", "messaging.add_message"),
    ("New segment", "filter_alt", "admin:audiences_audience_add", "audiences.add_audience"),
    ("Import people", "upload", "admin:customer_import_file", "audiences.add_import"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A line of the palette, which opens a page."""

    title: str
    icon: str
    url: str
    detail: str = ""
    # Whether the page can be shown as a sheet over the current one.
    in_sheet: bool = False


Groups = dict[str, list[Result]]


@require_safe
def palette(request: HttpRequest) -> HttpResponse:
    """Return the results for the typed text, in groups. `message`: only people, to explain this message to."""
    search = request.GET.get("q", "").replace("\0", "").strip()
    if is_too_long(search):
        return JsonResponse({"wrong": TOO_LONG}, status=400)
    message = request.GET.get("message", "")
    found = people_for_message(request, search, message=message) if message else results(request, search)
    groups = [{"title": title, "items": [asdict(one) for one in rows]} for title, rows in found.items() if rows]
    return JsonResponse({"groups": groups})


def results(request: HttpRequest, search: str) -> Groups:
    """Return the results of a search, or the actions and pages if nothing is typed."""
    people = find_people(request, search)
    return {
        "People": [profile_result(customer) for customer in people],
        "Actions": [*person_actions(request, search, people=people), *general_actions(request, search)],
        "Messages": named_results(request, Kind.MESSAGE, search),
        "Segments": named_results(request, Kind.SEGMENT, search),
        "Pages": page_results(request, search),
    }


def find_people(request: HttpRequest, search: str) -> list[Customer]:
    if not search or not request.user.has_perm("audiences.view_customer"):
        return []
    return Customer.objects.find(search, limit=PEOPLE_SHOWN)


def person_detail(customer: Customer) -> str:
    """Return the address and ID, which tell apart people of the same name."""
    known = (customer.email, customer.user_id, "Archived" if customer.archived_at else "")
    return ", ".join(text for text in known if text and text != str(customer))


def profile_result(customer: Customer) -> Result:
    url = reverse("admin:audiences_customer_change", args=[customer.pk])
    return Result(title=str(customer), icon="person", url=url, detail=person_detail(customer))


def person_actions(request: HttpRequest, search: str, *, people: list[Customer]) -> Iterable[Result]:
    """Yield the actions about the people found. A typed verb chooses one action, for the people found without it."""
    told = VERBS.match(search)
    wanted = find_people(request, told["rest"]) if told else []
    verb = told["verb"].lower() if told and wanted else ""
    for customer in wanted or people[:ACTIONS_FOR]:
        detail = person_detail(customer)
        if verb != "why" and request.user.has_perm(roles.WRITE_TO_ONE):
            url = reverse("admin:customer_send_message", args=[customer.pk])
            title = f"Send a message to {customer}"
            yield Result(title=title, icon="chat", url=url, detail=detail, in_sheet=True)
        if verb in ("", "why") and request.user.has_perm(VIEW_PERMISSIONS[Kind.MESSAGE]):
            url = reverse("admin:customer_why", args=[customer.pk])
            yield Result(title=f"Why did {customer} not get …", icon="help", url=url, detail=detail)


def begins_words(title: str, search: str) -> bool:
    """Return whether each typed word begins a word of the title. An empty search does."""
    words = title.lower().split()
    return all(any(word.startswith(typed) for word in words) for typed in search.lower().split())


def general_actions(request: HttpRequest, search: str) -> list[Result]:
    return [
        Result(title=title, icon=icon, url=reverse(name))
        for title, icon, name, permission in ACTIONS
        if request.user.has_perm(permission) and begins_words(title, search)
    ]


def named_results(request: HttpRequest, kind: Kind, search: str) -> list[Result]:
    """Return the messages or segments whose name contains the text. Viewers open a segment as a list of people."""
    if not search or not request.user.has_perm(VIEW_PERMISSIONS[kind]):
        return []
    icon, page = ("send", "messaging_message") if kind is Kind.MESSAGE else ("filter_alt", "audiences_audience")
    as_list = kind is Kind.SEGMENT and not request.user.has_perm("audiences.change_audience")
    people = reverse("admin:audiences_customer_changelist")
    return [
        Result(
            title=row["name"],
            icon=icon,
            detail=row["more"],
            url=f"{people}?segment={row['id']}" if as_list else reverse(f"admin:{page}_change", args=[row["id"]]),
        )
        for row in find_names(kind, words=search)[:NAMES_SHOWN]
    ]


def page_results(request: HttpRequest, search: str) -> list[Result]:
    """Return the pages of the navigation that the teammate may open."""
    found = []
    for section, entries in (("", (INBOX_ENTRY,)), *SECTIONS.items()):
        for entry in entries:
            item = entry.as_item()
            link = item["link"](request) if callable(item["link"]) else str(item["link"])
            if item["permission"](request) and begins_words(f"{entry.title} {section}", search):
                found.append(Result(title=entry.title, icon=entry.icon, url=link, detail=section))
    return found[:PAGES_SHOWN]


def people_for_message(request: HttpRequest, search: str, *, message: str) -> Groups:
    """Return people, each with the explanation whether they receive this message."""
    if not request.user.has_perm(VIEW_PERMISSIONS[Kind.MESSAGE]) or not message.isdecimal():
        return {}
    people = [
        Result(
            title=str(customer),
            icon="help",
            detail=person_detail(customer),
            url=f"{reverse('admin:customer_why', args=[customer.pk])}?message={message}",
        )
        for customer in find_people(request, search)
    ]
    return {"People": people}
