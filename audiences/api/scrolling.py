"""Scroll endpoints: export all users, leads or companies, beyond the limit of paged lists (wire 5.4)."""

from typing import TypeVar

from django.core import signing
from django.db.models import Model, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api.base.endpoint import Endpoint
from audiences.api.base.openapi import Parameter
from audiences.api.companies import company_payloads
from audiences.api.leads import present_leads
from audiences.api.users import user_payloads
from audiences.intake import Unknown
from audiences.models import Company, Customer

Row = TypeVar("Row", bound=Model)
SALT = "scroll"
SCROLL_SIZE = 100
# Seconds for which a scroll_param is valid.
SCROLL_LIFETIME_SECONDS = 24 * 3600
SCROLL_PARAMETERS = (Parameter("scroll_param", "scroll_param of the previous response; omit it to start."),)


class UserScroll(Endpoint):
    """/users/scroll."""

    parameters = {"get": SCROLL_PARAMETERS}

    def get(self, request: Request) -> Response:
        """Return the next 100 users; an empty list is the end."""
        return scroll_page(request, Customer.objects.present().users(), kind="user")


class LeadScroll(Endpoint):
    """/contacts/scroll."""

    parameters = {"get": SCROLL_PARAMETERS}

    def get(self, request: Request) -> Response:
        """Return the next 100 leads; an empty list is the end."""
        return scroll_page(request, present_leads(), kind="contact")


class CompanyScroll(Endpoint):
    """/companies/scroll."""

    parameters = {"get": SCROLL_PARAMETERS}

    def get(self, request: Request) -> Response:
        """Return the next 100 companies; an empty list is the end."""
        found, next_param = next_rows(request, Company.objects.present())
        return Response({"type": "company.list", "scroll_param": next_param, "companies": company_payloads(found)})


def scroll_page(request: Request, rows: QuerySet[Customer], *, kind: str) -> Response:
    """Return a response with the next users or leads."""
    found, next_param = next_rows(request, rows)
    return Response({"type": f"{kind}.list", "scroll_param": next_param, f"{kind}s": user_payloads(found)})


def next_rows(request: Request, rows: QuerySet[Row]) -> tuple[list[Row], str]:
    """Return the rows after the position in scroll_param, and the next position. The server stores no scroll state."""
    after = scroll_position(request.query_params.get("scroll_param", ""))
    found = list(rows.filter(pk__gt=after).order_by("pk")[:SCROLL_SIZE])
    return found, signing.dumps(found[-1].pk if found else after, salt=SALT)


def scroll_position(scroll_param: str) -> int:
    """Return the primary key at which the previous page ended; 0 before the first page."""
    if not scroll_param:
        return 0
    try:
        return int(signing.loads(scroll_param, salt=SALT, max_age=SCROLL_LIFETIME_SECONDS))
    except signing.BadSignature as wrong:
        raise Unknown("Invalid or expired scroll_param. Start again without one.", field="scroll_param") from wrong
