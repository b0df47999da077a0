"""The messenger's ping: a visit (behaviour 4.6, behaviour 7.4)."""

from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import body
from audiences.api.payloads import Json, user_reference
from audiences.intake import Refused, Source, Unknown
from audiences.intake.attributes.fields import read_mapping
from audiences.models import Company, Customer
from delivery import tasks
from delivery.api.messenger.access import MessengerEndpoint, NotProved, Proof, VisitorRateLimit
from delivery.api.messenger.payloads import error_payloads
from delivery.customers import merge
from delivery.messenger import sessions
from delivery.visits import fast_path
from delivery.visits import visit as customer_visit
from delivery.visits.visit import Visit

MAX_USER_AGENT_LENGTH = 500
IDENTITY_FIELDS = ("user_id", "email")


class Ping(MessengerEndpoint):
    """/messenger/ping: a visit. The answer has a token and all in-app messages neither opened nor dismissed."""

    def post(self, request: Request) -> Response:
        """Record the visit of the user that the page names, if the user_hash proves it, else of a visitor."""
        sent = body(request)
        settings = read_mapping(sent.get("user"), "user") or sent
        key = sessions.read_visitor(sent.get("visitor"))
        given = {name: settings.get(name) for name in IDENTITY_FIELDS}
        at = timezone.now()
        # A number is a user_id too, also 0.
        if any(value not in (None, "") for value in given.values()):
            proof = Proof(sent, settings, given)
            try:
                return Response(visit_of_user(request, settings, key=key, proof=proof, at=at))
            except NotProved as refused:
                proof.count_refusal(refused.reason, address=VisitorRateLimit().get_ident(request) or "", at=at)
                raise
        return Response(visit_of_visitor(request, settings, key=key, at=at))


def visit_of_user(request: Request, settings: dict[str, Any], *, key: UUID | None, proof: Proof, at: datetime) -> Json:
    """Record the visit of a user. A lead of the same browser becomes this user."""
    refused: list[Refused] = []
    facts = facts_of(request, settings)

    def identified() -> tuple[Customer, Company | None]:
        refused.clear()
        proof.check()
        lead = sessions.lead_of(key) if key else None
        if lead is None:
            customer = intake.identify_in_transaction(facts, at=at, source=proof.source, on_bad_value=refused.append)
        else:
            customer = merge.log_in(lead, facts, at=at, source=proof.source, on_bad_value=refused.append)
        return customer, company_of(settings)

    expected = fast_path.read_claimed_identity(
        facts,
        at=at,
        company=company_id_of(settings),
        visitor=key,
        source=proof.source,
        on_bad_value=refused.append,
        is_proved=proof.is_valid,
    )
    visit = enqueue_matched(customer_visit.visit_identified(identified, at=at, expected=expected))
    intake.note_refused_names(refused, at=at)
    token = sessions.session_token(visit.customer, secret=proof.secret, source=proof.source, at=at)
    return ping_payload(visit, token=token, refused=refused)


def visit_of_visitor(request: Request, settings: dict[str, Any], *, key: UUID | None, at: datetime) -> Json:
    """Record the visit of a lead. Nothing is stored about a visitor who has not written."""
    refused: list[Refused] = []
    # Nothing is proved here, so an identity and facts about a company are dropped.
    settings = {
        name: value for name, value in settings.items() if name not in ("company", "companies", *IDENTITY_FIELDS)
    }
    facts = facts_of(request, settings)

    def identified() -> tuple[Customer, Company | None]:
        refused.clear()
        lead = sessions.lead_of(key) if key else None
        if lead is None:
            raise sessions.VisitorHasNotWritten
        named = {**facts, "id": str(lead.pk)}
        here = intake.identify_in_transaction(named, at=at, source=Source.BROWSER, on_bad_value=refused.append)
        return here, company_of(settings)

    visit = None
    if key is not None:
        expected = fast_path.read_claimed_identity(
            facts,
            at=at,
            company=company_id_of(settings),
            visitor=key,
            source=Source.BROWSER,
            on_bad_value=refused.append,
            is_proved=lambda _verification: True,
        )
        with suppress(sessions.VisitorHasNotWritten):
            visit = enqueue_matched(customer_visit.visit_identified(identified, at=at, expected=expected))
    intake.note_refused_names(refused, at=at)
    token = sessions.visitor_token(key or sessions.new_key())
    return {**ping_payload(visit, token=token, refused=refused), "visitor": token}


def enqueue_matched(visit: Visit) -> Visit:
    """Wake a worker if the visit matched anything."""
    if visit.matched:
        transaction.on_commit(tasks.enqueue_dispatch)
    return visit


def facts_of(request: Request, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the page's facts, and those of the request itself."""
    facts = intake.facts_from_settings(settings)
    facts["last_seen_user_agent"] = request.headers.get("User-Agent", "")[:MAX_USER_AGENT_LENGTH]
    if address := VisitorRateLimit().get_ident(request):
        facts["last_seen_ip"] = address
    return facts


def company_of(settings: dict[str, Any]) -> Company | None:
    """Return the company that the page names, which intake has just saved; None if there is none."""
    company_id = company_id_of(settings)
    try:
        return intake.find_company({"company_id": company_id}) if company_id else None
    except (Refused, Unknown):
        return None


def company_id_of(settings: dict[str, Any]) -> Any:
    company = settings.get("company")
    return company.get("company_id", company.get("id")) if isinstance(company, dict) else None


def ping_payload(visit: Visit | None, *, token: str, refused: list[Refused]) -> Json:
    """Return the answer to the messenger. `visitor` is the token for its browser's storage; None for a user."""
    messages = [message.as_json() for message in visit.shown] if visit else []
    return {
        "type": "ping",
        "user": user_reference(visit.customer) if visit else None,
        "visitor": None,
        "token": token,
        "messages": messages,
        "unread_count": len(messages),
        "errors": error_payloads(refused),
    }
