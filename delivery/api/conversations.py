"""Conversations; and the GET that has matching run for one customer (the article's Pro Tip, behaviour 4.7)."""

from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base import openapi
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.lookups import admin_of, one_of
from audiences.api.base.openapi import PAGE, WHO, asked
from audiences.api.base.paging import paged
from audiences.api.base.query import refuse_beside
from audiences.intake import Refused
from audiences.intake.attributes.fields import flag, text
from delivery import tasks
from delivery.conversations import payloads, threads
from delivery.models import Conversation
from delivery.visits import visit

FIELDS = ("created_at", "updated_at")
DIRECTIONS = ("asc", "desc")
RELATED = ("customer", "record__message__sender", "record__version", "record__customer", "record__company")

TRUE_OR_FALSE = openapi.one_of("true", "false")
# What narrows the conversations of one user, and those of teammates; `type` says which of them are listed.
OF_USER = (*WHO, asked("unread", "Of a user: only unread ones.", TRUE_OR_FALSE))
OF_TEAMMATE = (
    asked("admin_id", "Of teammates: whose; `nobody` for unassigned ones."),
    asked("open", "Of teammates: only open ones, or only others.", TRUE_OR_FALSE),
)
PLAIN = asked("display_as", "plaintext: bodies without HTML.", openapi.one_of("html", "plaintext"))


class Conversations(Endpoint):
    """/conversations."""

    parameters = {
        "get": (
            asked("type", "Of a user, or of teammates; without it all.", openapi.one_of("user", "admin")),
            *OF_USER,
            *OF_TEAMMATE,
            asked("order", "The field, where type is given; else asc or desc."),
            asked("sort", "asc or desc, where type is given; else the field."),
            PLAIN,
            *PAGE,
        )
    }

    def get(self, request: Request) -> Response:
        """List them: all, those of one user (which runs matching for that user), or by teammate."""
        at = timezone.now()
        query = request.query_params
        rows: QuerySet[Conversation] = Conversation.objects.all()
        headers: dict[str, str] = {}
        kind = text(query.get("type"), "type")
        if kind != "user":
            refuse_beside(query, OF_USER, because="it needs type=user.")
        if kind != "admin":
            refuse_beside(query, OF_TEAMMATE, because="it needs type=admin.")
        if kind == "user":
            rows, headers = of_user(request, at=at)
        elif kind == "admin":
            rows = of_teammate(request)
        elif kind:
            raise Refused("type is user or admin.", field="type")
        keys, pages, _ = paged(request, rows.order_by(*order(request)).values_list("pk", flat=True), per_page=20)
        plain = displayed_as(request) == "plaintext"
        # Most of those for whom matching is asked have no conversation, and nothing more is looked up.
        found = Conversation.objects.select_related(*RELATED).in_bulk(keys) if keys else {}
        listed = [payloads.conversation(found[key], plain=plain) for key in keys if key in found]
        answer = {"type": "conversation.list", "pages": pages, "conversations": listed}
        return Response(answer, headers=headers)


class OneConversation(Endpoint):
    """/conversations/{id}."""

    parameters = {"get": (PLAIN,), "put": (PLAIN,)}

    def get(self, request: Request, pk: str) -> Response:
        """Read one, with its parts."""
        return conversation_response(request, one_of(Conversation.objects.all(), pk))

    def put(self, request: Request, pk: str) -> Response:
        """Note that the customer has read it: `{"read": true}`."""
        found = one_of(Conversation.objects.all(), pk)
        if flag(body(request).get("read"), "read"):
            threads.mark_read(found)
        return conversation_response(request, found)


def conversation_response(request: Request, found: Conversation) -> Response:
    """Answer with a conversation and its parts, as it is now."""
    now = Conversation.objects.select_related(*RELATED).get(pk=found.pk)
    return Response(payloads.conversation_with_parts(now, plain=displayed_as(request) == "plaintext"))


def of_user(request: Request, *, at: datetime) -> tuple[QuerySet[Conversation], dict[str, str]]:
    """The conversations of one customer, having matching run for them; the headers say whether it did."""
    query = request.query_params
    user_id = "" if query.get("id") or query.get("intercom_user_id") else text(query.get("user_id"), "user_id")
    customer = visit.check_user(user_id, at=at, then=tasks.nudge) if user_id else None
    next_at = None
    if customer is None:
        customer = intake.find(query)
        next_at = visit.check(customer, at=at, then=tasks.nudge)
    rows = Conversation.objects.of(customer)
    if flag(query.get("unread"), "unread"):
        rows = rows.filter(read=False)
    again = at + visit.CHECK_EVERY if next_at is None else next_at
    return rows, {
        "X-Outbound-Matching": "ran" if next_at is None else "limited",
        "X-Outbound-Matching-Next": str(int(again.timestamp())),
    }


def of_teammate(request: Request) -> QuerySet[Conversation]:
    """The conversations in the inbox, of one teammate or of nobody, open or not."""
    query = request.query_params
    rows = Conversation.objects.in_inbox()
    who = text(query.get("admin_id"), "admin_id")
    if who == "nobody":
        rows = rows.filter(assignee=None)
    elif who:
        rows = rows.filter(assignee=admin_of(who))
    is_open = flag(query.get("open"), "open")
    return rows if is_open is None else rows.filter(state="open") if is_open else rows.exclude(state="open")


def order(request: Request) -> tuple[str, str]:
    """How to sort; for one user or teammate `order` is the field and `sort` the direction, else the reverse."""
    query = request.query_params
    given = {text(query.get("order"), "order"), text(query.get("sort"), "sort")} - {""}
    if (unknown := given - {*FIELDS, *DIRECTIONS}) or given in ({*FIELDS}, {*DIRECTIONS}):
        wrong = min(unknown) if unknown else " and ".join(sorted(given))
        raise Refused(
            f"Conversations are sorted by created_at or updated_at, asc or desc, not by {wrong}.", field="order"
        )
    field = next((name for name in FIELDS if name in given), "updated_at")
    descending = "asc" not in given
    return ("-" if descending else "") + field, "-pk" if descending else "pk"


def displayed_as(request: Request) -> str:
    """Whether bodies are wanted as HTML or as plain text."""
    wanted = text(request.query_params.get("display_as"), "display_as") or "html"
    if wanted not in ("html", "plaintext"):
        raise Refused("display_as is plaintext or html.", field="display_as")
    return wanted
