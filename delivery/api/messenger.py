"""The messenger's ping: a customer is here (DESIGN 4.6, product.md 6.4)."""

from typing import Any

from django.db import transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import identity, intake
from audiences.api.endpoint import Endpoint, body
from audiences.api.errors import Forbidden
from audiences.api.shapes import Json, user_reference
from audiences.intake import Refused, Source, Unknown
from audiences.intake.values import mapping
from audiences.models import Company, Customer, Workspace
from delivery import tasks, visits

LONGEST_AGENT = 500


class Ping(Endpoint):
    """/messenger/ping: a visit. Answers with every in-app message not yet opened or dismissed."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    def post(self, request: Request) -> Response:
        """Take what the page says of its user as true where its user_hash proves it."""
        sent = body(request)
        settings = mapping(sent.get("user"), "user") or sent
        given = {key: settings.get(key) for key in ("user_id", "email")}
        if not any(given.values()):
            return Response(answer(None, [], []))
        check_signed(sent, settings, given)
        return Response(visited(request, settings))


def check_signed(sent: dict[str, Any], settings: dict[str, Any], given: dict[str, Any]) -> None:
    """Forbid claiming to be somebody without the hash that only the customer's own server can make."""
    secret, is_required = Workspace.identity()
    if not is_required and "user_hash" not in {**sent, **settings}:
        return
    user_hash = settings.get("user_hash", sent.get("user_hash"))
    if not identity.is_signed(secret, **given, given=user_hash):
        raise Forbidden("The user_hash is missing or is not that of this user.")


def visited(request: Request, settings: dict[str, Any]) -> Json:
    """Bring the customer up to date and record the visit, in one transaction; bad values are reported, not fatal."""
    at = timezone.now()
    refused: list[Refused] = []
    facts = intake.from_browser(settings)
    facts["last_seen_user_agent"] = request.headers.get("User-Agent", "")[:LONGEST_AGENT]
    if address := request.META.get("REMOTE_ADDR"):
        facts["last_seen_ip"] = address

    def identified() -> tuple[Customer, Company | None]:
        refused.clear()
        customer = intake.identify_here(facts, at=at, source=Source.BROWSER, on_bad_value=refused.append)
        return customer, company_of(settings)

    visit = visits.visit_of(identified, at=at)
    if visit.matched:
        transaction.on_commit(tasks.nudge)
    return answer(visit.customer, [message.as_json() for message in visit.shown], refused)


def company_of(settings: dict[str, Any]) -> Company | None:
    """The company the page names, which intake has just written down; None where it names none that can be."""
    company = settings.get("company")
    if not isinstance(company, dict):
        return None
    try:
        return intake.find_company({"company_id": company.get("company_id", company.get("id"))})
    except (Refused, Unknown):
        return None


def answer(customer: Any, messages: list[Any], refused: list[Refused]) -> Json:
    """What the messenger is told."""
    return {
        "type": "ping",
        "user": user_reference(customer) if customer else None,
        "messages": messages,
        "unread_count": len(messages),
        "errors": [{"code": "parameter_invalid", "message": str(wrong), "field": wrong.field} for wrong in refused],
    }
