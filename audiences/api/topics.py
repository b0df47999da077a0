"""Endpoints of topics, called subscription types in the API, and of a customer's opt-outs (wire 5.15)."""

from django.db.models import QuerySet
from django.db.models.functions import Lower
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.errors import MissingField
from audiences.api.base.lookups import LEAD_USER_ID, get_row
from audiences.api.payloads import Json
from audiences.intake import Refused, Unknown
from audiences.intake.attributes.fields import read_text
from audiences.models import Customer, MessageTopic, OptOutSource

# Customers get every message until they opt out. The API family also knows "opt_in".
CONSENT_TYPE = "opt_out"
CONTENT_TYPES = ("email", "in_app", "push")
STATES = {False: "live", True: "archived"}


class SubscriptionTypes(Endpoint):
    """/subscription_types."""

    def get(self, request: Request) -> Response:
        """List the topics by name."""
        return Response(topic_list(MessageTopic.objects.all()))


class ContactSubscriptions(Endpoint):
    """/contacts/{id}/subscriptions."""

    def get(self, request: Request, pk: str) -> Response:
        """List the topics that a user or lead opted out of."""
        return Response(topic_list(MessageTopic.objects.filter(opt_outs__customer=find_person(pk))))

    def post(self, request: Request, pk: str) -> Response:
        """Opt a user or lead out of a topic."""
        sent, customer = body(request), find_person(pk)
        if sent.get("id") is None:
            raise MissingField("id is required", field="id")
        if read_text(sent.get("consent_type"), "consent_type") not in ("", CONSENT_TYPE):
            raise Refused(
                "consent_type must be opt_out. To undo an opt-out, delete the subscription.", field="consent_type"
            )
        found = get_row(MessageTopic.objects.all(), sent["id"])
        intake.opt_out_of_topic(customer, found, source=OptOutSource.API, at=timezone.now())
        return Response(topic(found))


class OneContactSubscription(Endpoint):
    """/contacts/{id}/subscriptions/{subscription_id}."""

    def delete(self, request: Request, pk: str, subscription_id: str) -> Response:
        """Undo an opt-out, unless the customer stated it."""
        customer, found = find_person(pk), get_row(MessageTopic.objects.all(), subscription_id)
        if not intake.opt_in_to_topic(customer, found, source=OptOutSource.API):
            raise Unknown(f"The contact has no subscription with the id[{found.pk}]", field="id")
        return Response(topic(found))


def find_person(pk: str) -> Customer:
    """Return the user or lead with this id, or with the user_id that a lead is shown with."""
    as_lead = LEAD_USER_ID.fullmatch(pk)
    return get_row(Customer.objects.present(), as_lead[1] if as_lead else pk)


def topic_list(topics: QuerySet[MessageTopic]) -> Json:
    return {"type": "list", "data": [topic(one) for one in topics.order_by(Lower("name"))]}


def topic(found: MessageTopic) -> Json:
    words = {"name": found.name, "description": found.description, "locale": "en"}
    return {
        "type": "subscription",
        "id": str(found.pk),
        "state": STATES[found.is_archived],
        "consent_type": CONSENT_TYPE,
        "default_translation": words,
        "translations": [words],
        "content_types": list(CONTENT_TYPES),
    }
