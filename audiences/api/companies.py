"""Endpoints of companies: create, update, find and list, and list a company's users (wire 5.13)."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import compiler, intake
from audiences.api import payloads
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.lookups import get_row
from audiences.api.base.openapi import PAGE, Parameter
from audiences.api.base.paging import page_rows
from audiences.api.base.query import refuse_without_effect
from audiences.api.users import FILTER_PARAMETERS, SORT_PARAMETERS, user_list
from audiences.intake import Refused, Unknown, Warnings
from audiences.intake.attributes.fields import first_given, read_text
from audiences.models import Audience, Company, Customer, Membership, Tag
from audiences.models.companies import CompanyQuerySet
from audiences.rules import RuleError

COMPANY_ID_PARAMETER = Parameter("company_id", "Your ID of a company.")
NAME_PARAMETER = Parameter("name", "Name of a company.")
TYPE_PARAMETER = Parameter("type", "`user`, together with company_id: list the users of the company.")


class Companies(Endpoint):
    """/companies."""

    parameters = {"get": (COMPANY_ID_PARAMETER, NAME_PARAMETER, TYPE_PARAMETER, *PAGE, *FILTER_PARAMETERS)}

    def post(self, request: Request) -> Response:
        """Create or update a company by company_id; update an existing one also by our id."""
        facts = body(request)
        if first_given(facts, "company_id") is None and first_given(facts, "id") is not None:
            facts = {**facts, "company_id": intake.find_company({"id": facts["id"]}).company_id}
        warnings = Warnings()
        company = intake.upsert_company(facts, at=timezone.now(), on_bad_value=warnings.note)
        return answer_with_company(company, warnings=warnings)

    def get(self, request: Request) -> Response:
        """Find a company by company_id or name, list a company's users (`type=user`), or list companies."""
        query = request.query_params
        if query.get("type", "user") != "user":
            raise Refused("type must be user: it lists the users of one company.", field="type")
        if query.get("company_id"):
            refuse_without_effect(
                query, (NAME_PARAMETER, *FILTER_PARAMETERS), because="company_id identifies one company."
            )
            company = intake.find_company({"company_id": query["company_id"]})
            return company_user_list(request, company) if query.get("type") == "user" else answer_with_company(company)
        refuse_without_effect(query, [TYPE_PARAMETER], because="it needs company_id.")
        if query.get("name"):
            refuse_without_effect(query, FILTER_PARAMETERS, because="name identifies one company.")
            name = read_text(query["name"], "name")
            first = Company.objects.present().filter(name=name).order_by("pk").first()
            if first is None:
                raise Unknown(f"No such name[{name}]", field="name")
            return answer_with_company(first)
        found, pages, total = page_rows(request, filter_companies(request).order_by("-pk"))
        return Response(
            {"type": "company.list", "pages": pages, "total_count": total, "companies": company_payloads(found)}
        )


class OneCompany(Endpoint):
    """/companies/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Find a company."""
        return answer_with_company(intake.find_company({"id": pk}))


class CompanyUsers(Endpoint):
    """/companies/{id}/users."""

    parameters = {"get": (*PAGE, *SORT_PARAMETERS)}

    def get(self, request: Request, pk: str) -> Response:
        """List the users of a company."""
        return company_user_list(request, intake.find_company({"id": pk}))


def company_user_list(request: Request, company: Company) -> Response:
    return user_list(request, Customer.objects.present().users().filter(companies=company))


def filter_companies(request: Request) -> CompanyQuerySet:
    """Return the companies that match tag_id, and that have a member in the segment of segment_id."""
    rows = Company.objects.present()
    if tag_id := request.query_params.get("tag_id"):
        rows = rows.filter(tags=get_row(Tag.objects.all(), tag_id, what="tag_id"))
    if segment_id := request.query_params.get("segment_id"):
        segment = get_row(Audience.objects.segments(), segment_id, what="segment_id")
        try:
            members = compiler.matching_customers(segment.rules, at=timezone.now())
        except RuleError as wrong:
            raise Refused(str(wrong), field="segment_id") from wrong
        rows = rows.filter(pk__in=Membership.objects.filter(customer__in=members.values("pk")).values("company"))
    return rows


def answer_with_company(company: Company, *, warnings: Iterable[Refused] = ()) -> Response:
    """Return a response with one company and the warnings about fields that were not stored."""
    return Response(company_payloads([company])[0] | payloads.warnings_payload(warnings))


def company_payloads(companies: Sequence[Company]) -> list[dict[str, Any]]:
    """Return the payloads of companies, with their user counts and tags loaded in one query."""
    rows = Company.objects.filter(pk__in=[company.pk for company in companies]).prefetch_related("tags")
    user_count = Count("memberships", filter=Q(memberships__customer__archived_at=None))
    found = {row.pk: row for row in rows.annotate(user_count=user_count)}
    return [payloads.company(found[company.pk], user_count=found[company.pk].user_count) for company in companies]
