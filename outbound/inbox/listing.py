"""The inbox's list: its tabs, what is looked for, and a page of conversations, newest first."""

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
from messaging.content.plain_text import as_text
from outbound.console.lookups import name_of
from outbound.console.search import LONGEST, MOST_WORDS, TOO_LONG, is_too_long

PER_PAGE = 30
# Counted no further: nobody reads the difference.
MOST_COUNTED = 999
LONGEST_EXCERPT = 120
# Words as the index has them: “a-b” is two.
MOST_PARTS = 2 * MOST_WORDS
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MARK = re.compile(r"(-?\d{1,17})-(\d{1,18})")

Rows = QuerySet[Conversation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """One tab: its label, what is in it, and what it says when that is nothing."""

    label: str
    keep: Callable[[Rows, User], Rows]
    empty: str


TABS: dict[str, Tab] = {
    "open": Tab(
        label="Open",
        keep=lambda rows, _me: rows.filter(state="open"),
        empty="Nothing is open. A message you send comes here once its customer replies.",
    ),
    "mine": Tab(
        label="Mine",
        keep=lambda rows, me: rows.filter(state="open", assignee=me),
        empty="Nothing open is assigned to you.",
    ),
    "unassigned": Tab(
        label="Unassigned",
        keep=lambda rows, _me: rows.filter(state="open", assignee=None),
        empty="Everything open is assigned to somebody.",
    ),
    "snoozed": Tab(
        label="Snoozed",
        keep=lambda rows, _me: rows.filter(state="snoozed"),
        empty="Nothing is snoozed.",
    ),
    "closed": Tab(
        label="Closed",
        keep=lambda rows, _me: rows.filter(state="closed"),
        empty="Nothing was closed yet.",
    ),
}
FIRST = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the address asks the list for."""

    tab: str = FIRST
    search: str = ""
    # The last row of the page before; None on the first.
    after: tuple[datetime, int] | None = None
    mark: str = ""

    @classmethod
    def of(cls, given: QueryDict) -> "Asked":
        """Read an address; what makes no sense in it asks for nothing."""
        tab = given.get("tab", FIRST)
        search = " ".join(given.get("q", "").replace("\0", "").split())[: LONGEST + 1]
        mark = given.get("after", "")
        return cls(tab=tab if tab in TABS else FIRST, search=search, after=read_mark(mark), mark=mark)

    def address(self, **changed: str) -> str:
        """The address parameters that ask for this again, but for what changed."""
        asked = {"tab": "" if self.tab == FIRST else self.tab, "q": self.search, "after": self.mark, **changed}
        found = urlencode({name: value for name, value in asked.items() if value})
        return f"?{found}" if found else ""


def read_mark(mark: str) -> tuple[datetime, int] | None:
    """The place in the list a mark stands for; None for any other text."""
    found = MARK.fullmatch(mark)
    if found is None:
        return None
    try:
        return EPOCH + timedelta(microseconds=int(found[1])), int(found[2])
    except OverflowError:
        return None


def mark_of(row: Conversation) -> str:
    """A mark for the place of a row in the list."""
    return f"{(row.inbox_at - EPOCH) // timedelta(microseconds=1)}-{row.pk}" if row.inbox_at else ""


def listed(asked: Asked, *, me: User, at: datetime) -> dict[str, Any]:
    """A page of the list, with its tabs, for a template; as many queries however much there is."""
    inbox = Conversation.objects.in_inbox()
    rows: Rows = inbox.none()
    if not is_too_long(asked.search):
        rows = matching(inbox, asked.search) if asked.search else TABS[asked.tab].keep(inbox, me)
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
                "link": asked.address(tab="" if name == FIRST else name, q="", after="") or "?",
                "count": count_label(tab.keep(inbox, me)),
                "active": name == asked.tab and not asked.search,
            }
            for name, tab in TABS.items()
        ],
        "rows": as_rows(found, at=at),
        "older": asked.address(after=mark_of(found[-1])) if more else "",
        "newest": asked.address(after="") or "?",
        "empty": empty(asked),
        "unread": unread(),
    }


def empty(asked: Asked) -> str:
    """What stands where there is nothing to list."""
    if asked.after is not None:
        return "There is nothing older."
    if is_too_long(asked.search):
        return TOO_LONG
    return f"Nothing holds “{asked.search}”." if asked.search else TABS[asked.tab].empty


def count_label(rows: Rows) -> str:
    """How many there are, as a tab says it."""
    count = rows.order_by()[: MOST_COUNTED + 1].count()
    return f"{MOST_COUNTED}+" if count > MOST_COUNTED else f"{count}"


def unread() -> int:
    """How many open conversations nobody has looked at since they came up, as far as anybody counts."""
    return Conversation.objects.unseen()[: MOST_COUNTED + 1].count()


def newest_first(rows: Rows) -> list[Conversation]:
    """A page and one more, newest first, each with what was said last."""
    said = ConversationPart.objects.filter(conversation=OuterRef("pk"), part_type=PartType.COMMENT)
    newest = said.order_by("-created_at", "-pk").values("pk")[:1]
    ordered = rows.select_related("customer", "assignee").order_by("-inbox_at", "-pk")
    return list(ordered.annotate(last=Subquery(newest))[: PER_PAGE + 1])


def as_rows(found: Iterable[Conversation], *, at: datetime) -> list[dict[str, Any]]:
    """The rows as the list shows them."""
    found = list(found)
    last = ConversationPart.objects.select_related("teammate").in_bulk([row.last for row in found if row.last])  # type: ignore[attr-defined]
    return [as_row(row, last.get(row.last), at=at) for row in found]  # type: ignore[attr-defined]


def as_row(row: Conversation, last: ConversationPart | None, *, at: datetime) -> dict[str, Any]:
    """One conversation, with the first words of what was said last."""
    body, files = (last.body, last.attachments) if last else (row.body, row.attachments)
    words = " ".join(as_text(body).split())
    by_us = last is not None and not last.by_customer
    return {
        "conversation": row,
        "excerpt": words[:LONGEST_EXCERPT] or ("An attachment" if files else ""),
        "by": name_of(last.teammate).split(" ")[0] if by_us and last and last.teammate else "We" if by_us else "",
        "when": shortly(row.inbox_at, at=at) if row.inbox_at else "",
        "assignee": name_of(row.assignee) if row.assignee else "",
    }


def shortly(moment: datetime, *, at: datetime) -> str:
    """A moment in as few words as tell it apart, on the workspace's clock."""
    here, now = timezone.localtime(moment), timezone.localtime(at)
    if here.date() == now.date():
        return f"{here:%H:%M}"
    return f"{here:%-d %b}" if here.year == now.year else f"{here:%-d %b %Y}"


def matching(rows: Rows, search: str) -> Rows:
    """Those of a customer whose name or address holds the text, or in which somebody said all its words."""
    named = Q(customer__name__icontains=search) | Q(customer__email__icontains=search)
    found = Conversation.objects.in_inbox().filter(named).values("pk")
    words = re.findall(r"[^\W_]+", search)[:MOST_PARTS]
    if words:
        query = SearchQuery(" & ".join(f"'{word}':*" for word in words), config="simple", search_type="raw")
        said = ConversationPart.objects.exclude(body="").annotate(words=SEARCH_VECTOR).filter(words=query)
        opened = Conversation.objects.exclude(body="").annotate(words=SEARCH_VECTOR).filter(words=query)
        # Each by its own index; asked for together, none of them could be used.
        found = found.union(said.values("conversation"), opened.values("pk"))
    return rows.filter(pk__in=found)


def tag(asked: Asked, thread: Conversation | None, *, me: User, at: datetime) -> str:
    """An ETag that is the same while the inbox, and this thread, are: found out in three short queries."""
    changed = Conversation.objects.in_inbox().aggregate(newest=Max("updated_at"))["newest"]
    here = (thread.pk, thread.updated_at, thread.read) if thread is not None else ()
    facts = (me.pk, asked, timezone.localtime(at).date(), changed, unread(), *here)
    return f'"{hashlib.sha256(repr(facts).encode()).hexdigest()[:20]}"'
