"""The messenger's ping: a customer is here (behaviour 4.6, behaviour 7.4)."""

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
from audiences.intake.attributes.fields import mapping
from audiences.models import Company, Customer
from delivery import tasks
from delivery.api.messenger.access import MessengerEndpoint, NotProved, Proof, VisitorRateLimit
from delivery.api.messenger.payloads import errors
from delivery.customers import merge
from delivery.messenger import sessions
from delivery.visits import fast_path
from delivery.visits import visit as customer_visit
from delivery.visits.visit import Visit

LONGEST_AGENT = 500
WHO = ("user_id", "email")


class Ping(MessengerEndpoint):
    """/messenger/ping: a visit. Answers with every in-app message not yet opened or dismissed, and with a token."""

    def post(self, request: Request) -> Response:
        """Take what the page says of its user as true where its user_hash proves it; else this is a visitor."""
        sent = body(request)
        settings = mapping(sent.get("user"), "user") or sent
        key = sessions.read_visitor(sent.get("visitor"))
        given = {name: settings.get(name) for name in WHO}
        at = timezone.now()
        # A number is a user_id too, 0 as well.
        if any(value not in (None, "") for value in given.values()):
            proof = Proof(sent, settings, given)
            try:
                return Response(of_user(request, settings, key=key, proof=proof, at=at))
            except NotProved as refused:
                proof.count_refusal(refused.reason, address=VisitorRateLimit().get_ident(request) or "", at=at)
                raise
        return Response(of_visitor(request, settings, key=key, at=at))


def of_user(request: Request, settings: dict[str, Any], *, key: UUID | None, proof: Proof, at: datetime) -> Json:
    """The visit of a user; what they wrote in this browser before they logged in is theirs from now on."""
    refused: list[Refused] = []
    facts = facts_of(request, settings)

    def identified() -> tuple[Customer, Company | None]:
        refused.clear()
        proof.check()
        lead = sessions.lead_of(key) if key else None
        if lead is None:
            customer = intake.identify_here(facts, at=at, source=proof.source, on_bad_value=refused.append)
        else:
            customer = merge.log_in(lead, facts, at=at, source=proof.source, on_bad_value=refused.append)
        return customer, company_of(settings)

    expected = fast_path.expect(
        facts,
        at=at,
        company=company_id_of(settings),
        visitor=key,
        source=proof.source,
        on_bad_value=refused.append,
        is_proved=proof.holds,
    )
    visit = nudged(customer_visit.visit_of(identified, at=at, expected=expected))
    intake.note_refused(refused, at=at)
    token = sessions.session_token(visit.customer, secret=proof.secret, source=proof.source, at=at)
    return answer(visit, token=token, refused=refused)


def of_visitor(request: Request, settings: dict[str, Any], *, key: UUID | None, at: datetime) -> Json:
    """The visit of a lead, or of somebody who has not written yet, of whom nothing is written down."""
    refused: list[Refused] = []
    # Nobody proved anything: who they say to be they are not, and what they say of a company is not true of it.
    settings = {name: said for name, said in settings.items() if name not in ("company", "companies", *WHO)}
    facts = facts_of(request, settings)

    def identified() -> tuple[Customer, Company | None]:
        refused.clear()
        lead = sessions.lead_of(key) if key else None
        if lead is None:
            raise sessions.NotWritten
        named = {**facts, "id": str(lead.pk)}
        here = intake.identify_here(named, at=at, source=Source.BROWSER, on_bad_value=refused.append)
        return here, company_of(settings)

    visit = None
    if key is not None:
        expected = fast_path.expect(
            facts,
            at=at,
            company=company_id_of(settings),
            visitor=key,
            source=Source.BROWSER,
            on_bad_value=refused.append,
            is_proved=lambda _verification: True,
        )
        with suppress(sessions.NotWritten):
            visit = nudged(customer_visit.visit_of(identified, at=at, expected=expected))
    intake.note_refused(refused, at=at)
    token = sessions.visitor_token(key or sessions.new_key())
    return {**answer(visit, token=token, refused=refused), "visitor": token}


def nudged(visit: Visit) -> Visit:
    """Have a worker hand over what the visit matched."""
    if visit.matched:
        transaction.on_commit(tasks.enqueue_dispatch)
    return visit


def facts_of(request: Request, settings: dict[str, Any]) -> dict[str, Any]:
    """What the page says, and what the request itself tells."""
    facts = intake.from_browser(settings)
    facts["last_seen_user_agent"] = request.headers.get("User-Agent", "")[:LONGEST_AGENT]
    if address := VisitorRateLimit().get_ident(request):
        facts["last_seen_ip"] = address
    return facts


def company_of(settings: dict[str, Any]) -> Company | None:
    """The company the page names, which intake has just written down; None where it names none that can be."""
    company_id = company_id_of(settings)
    try:
        return intake.find_company({"company_id": company_id}) if company_id else None
    except (Refused, Unknown):
        return None


def company_id_of(settings: dict[str, Any]) -> Any:
    """What the page calls the company its user is working for."""
    company = settings.get("company")
    return company.get("company_id", company.get("id")) if isinstance(company, dict) else None


def answer(visit: Visit | None, *, token: str, refused: list[Refused]) -> Json:
    """What the messenger is told. `visitor` is what its browser keeps: nothing, for a user."""
    messages = [message.as_json() for message in visit.shown] if visit else []
    return {
        "type": "ping",
        "user": user_reference(visit.customer) if visit else None,
        "visitor": None,
        "token": token,
        "messages": messages,
        "unread_count": len(messages),
        "errors": errors(refused),
    }
