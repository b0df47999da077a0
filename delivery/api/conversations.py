"""Conversations of the API; a GET for one customer also runs matching for them (behaviour 4.7)."""

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base import openapi
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.lookups import find_admin, get_row
from audiences.api.base.openapi import PAGE, PERSON_PARAMETERS, Parameter
from audiences.api.base.paging import page_rows
from audiences.api.base.query import refuse_without_effect
from audiences.intake import Refused, Unknown
from audiences.intake.attributes.fields import read_flag, read_text
from delivery import tasks
from delivery.conversations import payloads, threads
from delivery.models import Conversation
from delivery.visits import visit

FIELDS = ("created_at", "updated_at")
DIRECTIONS = ("asc", "desc")
RELATED = ("customer", "record__message__sender", "record__version", "record__customer", "record__company")

TRUE_OR_FALSE = openapi.one_of("true", "false")
# Filters for the conversations of one user, and for those of teammates; `type` selects which of them apply.
OF_USER = (*PERSON_PARAMETERS, Parameter("unread", "With `type=user`: only unread conversations.", TRUE_OR_FALSE))
OF_TEAMMATE = (
    Parameter("admin_id", "With `type=admin`: the teammate's id, or `nobody` for unassigned conversations."),
    Parameter("open", "With `type=admin`: only open, or only closed and snoozed conversations.", TRUE_OR_FALSE),
)
PLAIN = Parameter("display_as", "`plaintext` for bodies without HTML.", openapi.one_of("html", "plaintext"))


def find_conversation(value: Any) -> Conversation:
    """Return the conversation with this id. Raise Unknown (404) if there is none, also for the id of a message."""
    if str(value).startswith((payloads.MESSAGE_PREFIX, payloads.OPENING_PREFIX)):
        given = read_text(value, "id")
        raise Unknown(
            f"No such id[{given}]: this is the id of a message. GET /messages/{given} returns its conversation_id.",
            field="id",
        )
    return get_row(Conversation.objects.all(), value)


class Conversations(Endpoint):
    """/conversations."""

    parameters = {
        "get": (
            Parameter(
                "type",
                "Conversations of one user, or those in the team's inbox. Without it, all.",
                openapi.one_of("user", "admin"),
            ),
            *OF_USER,
            *OF_TEAMMATE,
            Parameter("order", "With `type`, the field to sort by; without it, asc or desc."),
            Parameter("sort", "With `type`, asc or desc; without it, the field to sort by."),
            PLAIN,
            *PAGE,
        )
    }

    def get(self, request: Request) -> Response:
        """List conversations: all, those of one user (which runs matching for that user), or the team's."""
        at = timezone.now()
        query = request.query_params
        rows: QuerySet[Conversation] = Conversation.objects.all()
        headers: dict[str, str] = {}
        kind = read_text(query.get("type"), "type")
        if kind != "user":
            refuse_without_effect(query, OF_USER, because="it needs type=user.")
        if kind != "admin":
            refuse_without_effect(query, OF_TEAMMATE, because="it needs type=admin.")
        if kind == "user":
            rows, headers = conversations_of_user(request, at=at)
        elif kind == "admin":
            rows = conversations_of_teammate(request)
        elif kind:
            raise Refused("type must be user or admin.", field="type")
        keys, pages, _ = page_rows(
            request, rows.order_by(*sort_order(request)).values_list("pk", flat=True), per_page=20
        )
        plain = displayed_as(request) == "plaintext"
        # Most customers whose matching is requested have no conversation; then no more queries are needed.
        found = Conversation.objects.select_related(*RELATED).in_bulk(keys) if keys else {}
        listed = [payloads.conversation(found[key], plain=plain) for key in keys if key in found]
        answer = {"type": "conversation.list", "pages": pages, "conversations": listed}
        return Response(answer, headers=headers)


class OneConversation(Endpoint):
    """/conversations/{id}."""

    parameters = {"get": (PLAIN,), "put": (PLAIN,)}

    def get(self, request: Request, pk: str) -> Response:
        """Return one conversation with its parts."""
        return conversation_response(request, find_conversation(pk))

    def put(self, request: Request, pk: str) -> Response:
        """Mark the conversation as read by the customer: `{"read": true}`."""
        found = find_conversation(pk)
        if read_flag(body(request).get("read"), "read"):
            threads.mark_read(found)
        return conversation_response(request, found)


def conversation_response(request: Request, found: Conversation) -> Response:
    """Return the current conversation with its parts."""
    now = Conversation.objects.select_related(*RELATED).get(pk=found.pk)
    return Response(payloads.conversation_with_parts(now, plain=displayed_as(request) == "plaintext"))


def conversations_of_user(request: Request, *, at: datetime) -> tuple[QuerySet[Conversation], dict[str, str]]:
    """Return the conversations of one customer, after running matching for them, and headers that report the run."""
    query = request.query_params
    user_id = "" if query.get("id") or query.get("intercom_user_id") else read_text(query.get("user_id"), "user_id")
    customer = visit.check_user(user_id, at=at, then=tasks.enqueue_dispatch) if user_id else None
    next_at = None
    if customer is None:
        customer = intake.find_customer(query)
        next_at = visit.check(customer, at=at, then=tasks.enqueue_dispatch)
    rows = Conversation.objects.of_customer(customer)
    if read_flag(query.get("unread"), "unread"):
        rows = rows.filter(read=False)
    again = at + visit.CHECK_INTERVAL if next_at is None else next_at
    return rows, {
        "X-Outbound-Matching": "ran" if next_at is None else "limited",
        "X-Outbound-Matching-Next": str(int(again.timestamp())),
    }


def conversations_of_teammate(request: Request) -> QuerySet[Conversation]:
    """Return the conversations in the inbox, filtered by assignee and state."""
    query = request.query_params
    rows = Conversation.objects.in_inbox()
    who = read_text(query.get("admin_id"), "admin_id")
    if who == "nobody":
        rows = rows.filter(assignee=None)
    elif who:
        rows = rows.filter(assignee=find_admin(who))
    is_open = read_flag(query.get("open"), "open")
    return rows if is_open is None else rows.filter(state="open") if is_open else rows.exclude(state="open")


def sort_order(request: Request) -> tuple[str, str]:
    """Return the sort order. With `type`, `order` is the field and `sort` the direction; without it, the reverse."""
    query = request.query_params
    given = {read_text(query.get("order"), "order"), read_text(query.get("sort"), "sort")} - {""}
    if (unknown := given - {*FIELDS, *DIRECTIONS}) or given in ({*FIELDS}, {*DIRECTIONS}):
        wrong = min(unknown) if unknown else " and ".join(sorted(given))
        raise Refused(
            f"Conversations can be sorted by created_at or updated_at, asc or desc, not by {wrong}.", field="order"
        )
    field = next((name for name in FIELDS if name in given), "updated_at")
    descending = "asc" not in given
    return ("-" if descending else "") + field, "-pk" if descending else "pk"


def displayed_as(request: Request) -> str:
    wanted = read_text(request.query_params.get("display_as"), "display_as") or "html"
    if wanted not in ("html", "plaintext"):
        raise Refused("display_as must be plaintext or html.", field="display_as")
    return wanted
