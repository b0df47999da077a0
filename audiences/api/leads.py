"""Endpoints of leads, called contacts in the API: create, update, find, list and archive (wire 5.13)."""

from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.lookups import find_lead
from audiences.api.base.openapi import PAGE, PERSON_PARAMETERS
from audiences.api.base.query import refuse_without_effect
from audiences.api.base.versions import refuse_our_id
from audiences.api.users import (
    CREATED_SINCE_PARAMETER,
    FILTER_PARAMETERS,
    SORT_PARAMETERS,
    answer_with_user,
    archive_and_answer,
    filter_users,
    person_list,
)
from audiences.intake import Refused, Warnings
from audiences.intake.attributes.fields import first_given, read_text
from audiences.intake.identity_resolution import read_email
from audiences.models import Customer
from audiences.models.customers import Role


class Leads(Endpoint):
    """/contacts."""

    parameters = {"get": (*PERSON_PARAMETERS, *PAGE, *SORT_PARAMETERS, *FILTER_PARAMETERS, CREATED_SINCE_PARAMETER)}

    def post(self, request: Request) -> Response:
        """Create a lead, or update the one with this id, user_id or email."""
        # An empty body is allowed: the clients create leads without any fields.
        facts: dict[str, Any] = request.data  # type: ignore[assignment]  # JsonObject reads nothing else.
        check_lead(facts)
        is_named = first_given(facts, "id", "user_id") is not None
        lead = find_lead(facts) if is_named else lead_with_email(facts.get("email"))
        return save_and_answer(facts, lead=lead)

    def get(self, request: Request) -> Response:
        """Find a lead by user_id or id, or list leads, optionally with an email."""
        query = request.query_params
        if first_given(query, "user_id", "id", "intercom_user_id") is not None:
            refuse_without_effect(
                query, (*FILTER_PARAMETERS, CREATED_SINCE_PARAMETER), because="user_id or id identifies one lead."
            )
            return answer_with_user(find_lead(query))
        rows = filter_users(request, present_leads())
        if query.get("email"):
            rows = rows.filter(email=read_email(query["email"]))
        return person_list(request, rows, kind="contact")


class Lead(Endpoint):
    """/contacts/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Find a lead."""
        return answer_with_user(find_lead({"id": pk}))

    def put(self, request: Request, pk: str) -> Response:
        """Update a lead."""
        facts = body(request)
        check_lead(facts)
        return save_and_answer(facts, lead=find_lead({"id": pk}))

    def delete(self, request: Request, pk: str) -> Response:
        """Archive a lead."""
        return archive_and_answer(find_lead({"id": pk}))


def save_and_answer(facts: Mapping[str, Any], *, lead: Customer | None) -> Response:
    """Save a lead (None creates one) and return a response with it. Refuse intercom_user_id in the body."""
    refuse_our_id(facts)
    warnings = Warnings()
    row = intake.save_lead(facts, lead=lead, at=timezone.now(), on_bad_value=warnings.note)
    return answer_with_user(row, warnings=warnings)


def check_lead(facts: dict[str, Any]) -> None:
    """Refuse a body whose type is not a lead."""
    if read_text(facts.get("type"), "type") not in ("", "contact", "lead"):
        raise Refused("A contact is a lead here: type must be contact or lead. Send users to /users.", field="type")


def present_leads() -> QuerySet[Customer]:
    return Customer.objects.present().filter(role=Role.LEAD)


def lead_with_email(email: Any) -> Customer | None:
    """Return the lead with this email; None if there is none."""
    address = read_email(email)
    return present_leads().filter(email=address, email_is_said=False).first() if address else None
