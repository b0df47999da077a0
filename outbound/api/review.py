"""Endpoints that show a message before it is set live: as one customer would read it, and its review."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import Endpoint
from audiences.api.base.openapi import PERSON_PARAMETERS, Parameter
from audiences.api.base.query import given_parameters
from audiences.api.payloads import user_reference
from audiences.intake import Refused
from delivery.conversations.payloads import message_id
from delivery.eligibility import explain
from messaging import authoring
from messaging.models import MessageVersion
from outbound.api.messages import find_message
from outbound.composer import preview, review
from outbound.people import why

COMPANY_PARAMETER = Parameter("company_id", "Your ID of a company of the user, for texts with company variables.")


class Preview(Endpoint):
    """/outbound/{id}/preview."""

    parameters = {"get": (*PERSON_PARAMETERS, COMPANY_PARAMETER)}

    def get(self, request: Request, pk: str) -> Response:
        """Return the message as one customer would read it."""
        message, query = find_message(pk), request.query_params
        customer = intake.find_customer(query) if given_parameters(query, PERSON_PARAMETERS) else None
        company = intake.find_company({"company_id": query["company_id"]}) if query.get("company_id") else None
        version = message.version = message.version or MessageVersion()
        problems = authoring.content_problems(message, subject=version.subject, body=version.body, link=version.link)
        if problems:
            field, sentences = next(iter(problems.items()))
            raise Refused(sentences[0], field=field)
        found = preview.preview(message, customer=customer, company=company.pk if company else None, at=timezone.now())
        if found.wrong:
            raise Refused(found.wrong, field="body")
        if company and found.company != company:
            raise Refused("The user is not in this company, or is not given.", field="company_id")
        return Response(
            {
                "type": "message.preview",
                "id": message_id(message.pk),
                "user": user_reference(customer) if customer else None,
                "company_id": found.company.company_id if found.company else None,
                "subject": found.subject,
                "html": found.html,
                "missing": found.missing,
            }
        )


class Review(Endpoint):
    """/outbound/{id}/review."""

    def get(self, request: Request, pk: str) -> Response:
        """Return how many people match now, and the problems and warnings before a launch."""
        message = find_message(pk)
        if message.audience is None:
            raise Refused("A direct message has no audience to review.", field="id")
        at = timezone.now()
        problems = authoring.launch_problems_by_field(message, at=at)
        sentences = [sentence for found in problems.values() for sentence in found]
        found = review.review(message, at=at, problems=sentences)
        fields = {sentence: field for field, found in problems.items() for sentence in found}
        return Response(
            {
                "type": "message.review",
                "id": message_id(message.pk),
                "reviewed": found.people,
                "receiving": found.receiving,
                "copies": found.copies,
                "confirm": found.confirm or None,
                "left_out": [{"reason": reason, "people": people} for reason, people in found.left_out],
                "sentences": found.sentences,
                "problems": [{"field": fields.get(sentence), "message": sentence} for sentence in found.problems],
                "warnings": found.warnings,
            }
        )


class Why(Endpoint):
    """/outbound/{id}/why."""

    parameters = {"get": PERSON_PARAMETERS}

    def get(self, request: Request, pk: str) -> Response:
        """Explain whether one customer receives the message, rule by rule."""
        message, customer = find_message(pk), intake.find_customer(request.query_params)
        explained = explain.explain(message, customer, at=timezone.now())
        copies = [
            {
                "company_id": card["company"].company_id if card["company"] else None,
                "verdict": case.verdict.value,
                "text": card["says"],
                "status": case.record.status if case.record else None,
                "evaluations": [
                    {
                        "company_id": pair["company"].company_id if pair["company"] else None,
                        "matches": pair["matches"],
                        "rules": [
                            {
                                "depth": line["depth"],
                                "joint": line["joint"] or None,
                                "text": line["text"],
                                "holds": line["holds"],
                                "value": line["saw"] or None,
                            }
                            for line in pair["lines"]
                        ],
                    }
                    for pair in card["pairs"]
                ],
            }
            for case, card in zip(explained.cases, why.as_cards(explained), strict=True)
        ]
        return Response(
            {
                "type": "message.why",
                "id": message_id(message.pk),
                "user": user_reference(customer),
                "copies": copies,
                "conditions": why.other_conditions(explained),
            }
        )
