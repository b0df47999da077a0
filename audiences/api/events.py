"""Endpoints of events: record, list and summarise (wire 5.12)."""

from datetime import timedelta

from django.db.models import Q
from django.utils import timezone
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from audiences import intake
from audiences.api import payloads
from audiences.api.base import openapi
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.lookups import get_row
from audiences.api.base.openapi import PAGE, PERSON_PARAMETERS, Parameter, const
from audiences.api.base.paging import positive_number, request_address
from audiences.intake import Refused
from audiences.intake.attributes.fields import read_flag, read_moment
from audiences.models import Event

EVENT_HISTORY = timedelta(days=90)


class Events(Endpoint):
    """/events."""

    parameters = {
        "get": (
            Parameter("type", "`user`: list the events of one user.", const("user")),
            *PERSON_PARAMETERS,
            Parameter("summary", "true: return counts by event name.", openapi.one_of("true", "false")),
            Parameter("before", "ID of the last event of the previous page."),
            PAGE[1],
        )
    }

    def post(self, request: Request) -> Response:
        """Record an event of a user. The response is empty, also for a duplicate."""
        facts = body(request)
        happened_at = read_moment(facts.get("created_at"), "created_at")
        intake.record_event(
            intake.find_customer(facts), facts.get("event_name"), happened_at, facts.get("metadata"), at=timezone.now()
        )
        return Response(status=status.HTTP_202_ACCEPTED)

    def get(self, request: Request) -> Response:
        """List a user's events of the last 90 days, newest first, or summarise all with `summary=true`."""
        query = request.query_params
        if query.get("type") != "user":
            raise Refused("Events are listed for one user: send type=user, and user_id, email or id.", field="type")
        customer = intake.find_customer(query)
        if read_flag(query.get("summary"), "summary"):
            return Response(payloads.event_summary(customer.event_summaries.order_by("name"), customer=customer))
        rows = customer.events.filter(happened_at__gte=timezone.now() - EVENT_HISTORY).order_by("-happened_at", "-pk")
        if query.get("before"):
            last = get_row(Event.objects.filter(customer=customer), query["before"], what="before")
            rows = rows.filter(Q(happened_at__lt=last.happened_at) | Q(happened_at=last.happened_at, pk__lt=last.pk))
        per_page = positive_number(request, "per_page", default=50, maximum=200)
        found = list(rows[: per_page + 1])
        following = None
        if len(found) > per_page:
            found.pop()
            following = replace_query_param(request_address(request), "before", found[-1].pk)
        pages = {"type": "pages", "next": following, "per_page": per_page}
        events = [payloads.event(happened, customer=customer) for happened in found]
        return Response({"type": "event.list", "events": events, "pages": pages})
