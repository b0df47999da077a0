"""Endpoints for people that involve delivery: leads and visitors become users, and erasure."""

from typing import Any
from uuid import UUID

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.errors import MissingField
from audiences.api.base.lookups import find_lead, get_row
from audiences.api.base.openapi import Parameter
from audiences.api.base.versions import refuse_our_id, refuse_unread_keys
from audiences.api.leads import save_and_answer
from audiences.api.users import answer_with_user, archive_and_answer
from audiences.intake import Refused, Source, Unknown, Warnings
from audiences.intake.attributes.fields import first_given, read_mapping, read_text
from audiences.models import Customer
from delivery.customers import erase, merge
from delivery.messenger import sessions


class ConvertLead(Endpoint):
    """/contacts/convert."""

    def post(self, request: Request) -> Response:
        """Convert a lead to the user they turned out to be, and merge their data.

        Also a user without a user_id can be converted, by their id.
        """
        sent = body(request)
        contact = read_mapping(sent.get("contact"), "contact")
        by_address = Customer.objects.present().filter(user_id=None)
        if first_given(contact, "id") is not None:
            return convert_lead(get_row(by_address, contact["id"]), sent)
        return convert_lead(find_lead(contact), sent)


class Visitors(Endpoint):
    """/visitors: leads who wrote in the messenger, by their visitor id (from getVisitorId) as user_id."""

    parameters = {"get": (Parameter("user_id", "The visitor's id."), Parameter("id", "The lead's id."))}

    def get(self, request: Request) -> Response:
        """Return the lead with this user_id or id."""
        return answer_with_user(visitor_of(request.query_params))

    def put(self, request: Request) -> Response:
        """Update a visitor, named by user_id or id."""
        sent = body(request)
        return save_and_answer(sent, lead=visitor_of(sent))

    # Some clients update by POST.
    def post(self, request: Request) -> Response:
        """Update a visitor, as PUT does."""
        return self.put(request)


class Visitor(Endpoint):
    """/visitors/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Return a visitor."""
        return answer_with_user(visitor_of({"id": pk}))

    def put(self, request: Request, pk: str) -> Response:
        """Update a visitor."""
        return save_and_answer(body(request), lead=visitor_of({"id": pk}))

    def delete(self, request: Request, pk: str) -> Response:
        """Archive the visitor."""
        return archive_and_answer(visitor_of({"id": pk}))


class ConvertVisitor(Endpoint):
    """/visitors/convert."""

    def post(self, request: Request) -> Response:
        """Convert a visitor to a user; with type=lead, return the lead that the visitor already is."""
        sent = body(request)
        visitor = visitor_of(read_mapping(sent.get("visitor"), "visitor"))
        if read_text(sent.get("type"), "type") in ("lead", "contact"):
            return answer_with_user(visitor)
        return convert_lead(visitor, sent)


class UserDeleteRequests(Endpoint):
    """/user_delete_requests."""

    def post(self, request: Request) -> Response:
        """Erase a user or lead for good: personal data is blanked, bare rows remain for the counts."""
        sent = body(request)
        named = first_given(sent, "intercom_user_id", "id")
        if named is not None:
            refuse_unread_keys(sent, "user_id", "email", instead="Name the user to erase by intercom_user_id only")
        if named is None:
            raise MissingField("intercom_user_id is required", field="intercom_user_id")
        # Archived customers can be erased, too.
        customer = get_row(Customer.objects.all(), named, what="intercom_user_id")
        erase.erase(customer, at=timezone.now())
        return Response({"id": str(customer.pk)})


def convert_lead(lead: Customer, sent: dict[str, Any]) -> Response:
    """Convert a lead to the user that the body names; return the user."""
    facts = read_mapping(sent.get("user"), "user")
    refuse_our_id(facts, path="user.")
    if first_given(facts, "user_id", "email") is None and first_given(facts, "id") is not None:
        user = intake.find_customer({"id": facts["id"]})
        facts = {**facts, "user_id": user.user_id, "email": user.email}
    if first_given(facts, "user_id", "email") is None:
        raise Refused("user must have a user_id or an email.", field="user")
    at, warnings = timezone.now(), Warnings()
    facts = {key: value for key, value in facts.items() if key != "id"}
    user = merge.log_in(lead, facts, at=at, source=Source.REST, on_bad_value=warnings.note)
    return answer_with_user(user, warnings=warnings)


def visitor_of(reference: Any) -> Customer:
    """Return the lead that a visitor became, by the visitor's id or by the lead's id."""
    key = read_text(reference.get("user_id"), "user_id")
    try:
        found = sessions.lead_of(UUID(key)) if key else None
    except ValueError:
        found = None
    if found is not None:
        return found
    if key and not key.startswith("lead-"):
        raise Unknown(f"No such user_id[{key}]", field="user_id")
    return find_lead({"id": reference.get("id"), "user_id": key})
