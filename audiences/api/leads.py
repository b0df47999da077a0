"""Leads, which the wire calls contacts: made, brought up to date, found, listed, archived (wire.md 5.13)."""

from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.endpoint import Endpoint, body
from audiences.api.references import lead_of
from audiences.api.users import answer_with, archived, filtered, person_list
from audiences.intake import Warnings
from audiences.intake.lookup import read_email
from audiences.intake.values import first_given
from audiences.models import Customer
from audiences.models.customers import Role


class Leads(Endpoint):
    """/contacts."""

    def post(self, request: Request) -> Response:
        """Make a lead; with an `id`, a `user_id` of ours, or an email a lead has, bring that one up to date."""
        # Of whom nothing is known yet; the clients make one of no fields at all.
        facts: dict[str, Any] = request.data  # type: ignore[assignment]  # JsonObject reads nothing else.
        is_named = first_given(facts, "id", "user_id") is not None
        lead = lead_of(facts) if is_named else with_email(facts.get("email"))
        return saved(facts, lead=lead)

    def get(self, request: Request) -> Response:
        """Find one by user_id, or list them, by email too."""
        query = request.query_params
        if query.get("user_id"):
            return answer_with(lead_of({"user_id": query["user_id"]}))
        rows = filtered(request, leads())
        if query.get("email"):
            rows = rows.filter(email=read_email(query["email"]))
        return person_list(request, rows, kind="contact")


class Lead(Endpoint):
    """/contacts/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Find one."""
        return answer_with(lead_of({"id": pk}))

    def put(self, request: Request, pk: str) -> Response:
        """Bring one up to date."""
        return saved(body(request), lead=lead_of({"id": pk}))

    def delete(self, request: Request, pk: str) -> Response:
        """Archive one."""
        return archived(lead_of({"id": pk}))


def saved(facts: Mapping[str, Any], *, lead: Customer | None) -> Response:
    """Save a lead, a new one if None, and answer with it."""
    warnings = Warnings()
    row = intake.save_lead(facts, lead=lead, at=timezone.now(), on_bad_value=warnings.note)
    return answer_with(row, warnings=warnings)


def leads() -> QuerySet[Customer]:
    """All present leads."""
    return Customer.objects.present().filter(role=Role.LEAD)


def with_email(email: Any) -> Customer | None:
    """Return the lead who is known by this email; None if there is none."""
    address = read_email(email)
    return leads().filter(email=address, email_is_said=False).first() if address else None
