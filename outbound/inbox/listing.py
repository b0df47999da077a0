"""The list of the inbox: tabs, search and pages, newest first."""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.contrib.postgres.search import SearchQuery
from django.db.models import Max, OuterRef, Q, QuerySet, Subquery
from django.http import QueryDict
from django.utils import timezone

from delivery.models import Conversation, ConversationPart, PartType
from delivery.models.conversation import SEARCH_VECTOR
from messaging.content.plain_text import html_to_text
from outbound.console.lookups import teammate_name
from outbound.console.search import MAX_CHARACTERS, MAX_WORDS, TOO_LONG, is_too_long

PER_PAGE = 30
# Counts stop here and are shown as “999+”.
CONVERSATIONS_COUNTED_MAX = 999
EXCERPT_LENGTH = 120
# The index splits words: “a-b” is two of them.
MAX_INDEXED_WORDS = 2 * MAX_WORDS
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PAGE_MARK = re.compile(r"(-?\d{1,17})-(\d{1,18})")

Rows = QuerySet[Conversation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """A tab: its label, its filter, and the text that is shown if it is empty."""

    label: str
    filter: Callable[[Rows, User], Rows]
    empty: str


TABS: dict[str, Tab] = {
    "open": Tab(
        label="Open",
        filter=lambda rows, _me: rows.filter(state="open"),
        empty="No open conversations. A message that you send appears here when its customer replies.",
    ),
    "mine": Tab(
        label="Mine",
        filter=lambda rows, me: rows.filter(state="open", assignee=me),
        empty="No open conversations are assigned to you.",
    ),
    "unassigned": Tab(
        label="Unassigned",
        filter=lambda rows, _me: rows.filter(state="open", assignee=None),
        empty="All open conversations are assigned.",
    ),
    "snoozed": Tab(
        label="Snoozed",
        filter=lambda rows, _me: rows.filter(state="snoozed"),
        empty="No snoozed conversations.",
    ),
    "closed": Tab(
        label="Closed",
        filter=lambda rows, _me: rows.filter(state="closed"),
        empty="No closed conversations yet.",
    ),
}
DEFAULT_TAB = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """The parameters of the list, as in its address."""

    tab: str = DEFAULT_TAB
    search: str = ""
    # The last row of the previous page; None on the first page.
    after: tuple[datetime, int] | None = None
    mark: str = ""

    @classmethod
    def from_address(cls, given: QueryDict) -> "ListQuery":
        """Parse an address. Invalid parameters are ignored."""
        tab = given.get("tab", DEFAULT_TAB)
        search = " ".join(given.get("q", "").replace("\0", "").split())[: MAX_CHARACTERS + 1]
        mark = given.get("after", "")
        return cls(tab=tab if tab in TABS else DEFAULT_TAB, search=search, after=parse_mark(mark), mark=mark)

    def address(self, **changed: str) -> str:
        """Return the address parameters of this query with some of them changed."""
        parameters = {
            "tab": "" if self.tab == DEFAULT_TAB else self.tab,
            "q": self.search,
            "after": self.mark,
            **changed,
        }
        found = urlencode({name: value for name, value in parameters.items() if value})
        return f"?{found}" if found else ""


def parse_mark(mark: str) -> tuple[datetime, int] | None:
    """Parse a page mark. Returns None if it is invalid."""
    found = PAGE_MARK.fullmatch(mark)
    if found is None:
        return None
    try:
        return EPOCH + timedelta(microseconds=int(found[1])), int(found[2])
    except OverflowError:
        return None


def mark_of(row: Conversation) -> str:
    """Return the mark of the page that begins after this row."""
    return f"{(row.inbox_at - EPOCH) // timedelta(microseconds=1)}-{row.pk}" if row.inbox_at else ""


def list_context(asked: ListQuery, *, me: User, at: datetime) -> dict[str, Any]:
    """Return the template context of one page of the list. The number of queries is constant."""
    inbox = Conversation.objects.in_inbox()
    rows: Rows = inbox.none()
    if not is_too_long(asked.search):
        rows = search_rows(inbox, asked.search) if asked.search else TABS[asked.tab].filter(inbox, me)
    if asked.after is not None:
        moment, pk = asked.after
        rows = rows.filter(inbox_at__lte=moment).exclude(inbox_at=moment, pk__gte=pk)
    found = newest_first(rows)
    more = len(found) > PER_PAGE
    found = found[:PER_PAGE]
    return {
        "asked": asked,
        "tabs": [
            {
                "label": tab.label,
                "link": asked.address(tab="" if name == DEFAULT_TAB else name, q="", after="") or "?",
                "count": count_label(tab.filter(inbox, me)),
                "active": name == asked.tab and not asked.search,
            }
            for name, tab in TABS.items()
        ],
        "rows": as_rows(found, at=at),
        "older": asked.address(after=mark_of(found[-1])) if more else "",
        "newest": asked.address(after="") or "?",
        "empty": empty_text(asked),
        "unread": unread_count(),
    }


def empty_text(asked: ListQuery) -> str:
    if asked.after is not None:
        return "There are no older conversations."
    if is_too_long(asked.search):
        return TOO_LONG
    return f"No conversation matches “{asked.search}”." if asked.search else TABS[asked.tab].empty


def count_label(rows: Rows) -> str:
    count = rows.order_by()[: CONVERSATIONS_COUNTED_MAX + 1].count()
    return f"{CONVERSATIONS_COUNTED_MAX}+" if count > CONVERSATIONS_COUNTED_MAX else f"{count}"


def unread_count() -> int:
    """Count the open conversations that no teammate has read since the last message, up to a limit."""
    return Conversation.objects.unseen()[: CONVERSATIONS_COUNTED_MAX + 1].count()


def newest_first(rows: Rows) -> list[Conversation]:
    """Return one page and one more row, with the ID of the latest comment in `last`."""
    comments = ConversationPart.objects.filter(conversation=OuterRef("pk"), part_type=PartType.COMMENT)
    newest = comments.order_by("-created_at", "-pk").values("pk")[:1]
    ordered = rows.select_related("customer", "assignee").order_by("-inbox_at", "-pk")
    return list(ordered.annotate(last=Subquery(newest))[: PER_PAGE + 1])


def as_rows(found: Iterable[Conversation], *, at: datetime) -> list[dict[str, Any]]:
    found = list(found)
    last = ConversationPart.objects.select_related("teammate").in_bulk([row.last for row in found if row.last])  # type: ignore[attr-defined]
    return [as_row(row, last.get(row.last), at=at) for row in found]  # type: ignore[attr-defined]


def as_row(row: Conversation, last: ConversationPart | None, *, at: datetime) -> dict[str, Any]:
    """Return the template context of a conversation, with the beginning of its latest comment."""
    body, files = (last.shown_body, last.attachments) if last else (row.body, row.attachments)
    words = " ".join(html_to_text(body).split())
    by_us = last is not None and not last.by_customer
    return {
        "conversation": row,
        "excerpt": words[:EXCERPT_LENGTH] or ("An attachment" if files else ""),
        "by": teammate_name(last.teammate).split(" ")[0] if by_us and last and last.teammate else "We" if by_us else "",
        "when": format_briefly(row.inbox_at, at=at) if row.inbox_at else "",
        "assignee": teammate_name(row.assignee) if row.assignee else "",
    }


def format_briefly(moment: datetime, *, at: datetime) -> str:
    """Format a moment briefly, in the workspace's time zone."""
    here, now = timezone.localtime(moment), timezone.localtime(at)
    if here.date() == now.date():
        return f"{here:%H:%M}"
    return f"{here:%-d %b}" if here.year == now.year else f"{here:%-d %b %Y}"


def search_rows(rows: Rows, search: str) -> Rows:
    """Return conversations whose customer's name or address contains the text, or that contain all its words."""
    by_customer = Q(customer__name__icontains=search) | Q(customer__email__icontains=search)
    found = Conversation.objects.in_inbox().filter(by_customer).values("pk")
    words = re.findall(r"[^\W_]+", search)[:MAX_INDEXED_WORDS]
    if words:
        query = SearchQuery(" & ".join(f"'{word}':*" for word in words), config="simple", search_type="raw")
        comments = ConversationPart.objects.exclude(body="").annotate(words=SEARCH_VECTOR).filter(words=query)
        opened = Conversation.objects.exclude(body="").annotate(words=SEARCH_VECTOR).filter(words=query)
        # A union, because PostgreSQL uses no index for the combined condition.
        found = found.union(comments.values("conversation"), opened.values("pk"))
    return rows.filter(pk__in=found)


def etag(asked: ListQuery, thread: Conversation | None, *, me: User, at: datetime) -> str:
    """Return an ETag that changes with the inbox and with the open conversation. It takes three short queries."""
    changed = Conversation.objects.in_inbox().aggregate(newest=Max("updated_at"))["newest"]
    here = (thread.pk, thread.updated_at, thread.read) if thread is not None else ()
    facts = (me.pk, asked, timezone.localtime(at).date(), changed, unread_count(), *here)
    return f'"{hashlib.sha256(repr(facts).encode()).hexdigest()[:20]}"'
