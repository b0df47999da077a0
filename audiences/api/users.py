"""Endpoints of users: create, update, find, list and archive (wire 5.10)."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.db.models import F, QuerySet
from django.utils import timezone
from django_filters import FilterSet, ModelChoiceFilter, NumberFilter
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import compiler, intake
from audiences.api import payloads
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.openapi import NUMBER, PAGE, PERSON_PARAMETERS, Parameter, one_of
from audiences.api.base.paging import page_rows
from audiences.api.base.query import given_parameters, refuse_without_effect
from audiences.api.base.versions import refuse_our_id
from audiences.api.segments import segments_of
from audiences.intake import Refused, Unknown, Warnings
from audiences.intake.attributes.fields import read_text
from audiences.models import Audience, Customer, Tag
from audiences.rules import RuleError

SORTS = {
    "created_at": "created_at",
    "updated_at": "updated_at",
    "signed_up_at": "signed_up_at",
    "last_request_at": "last_seen_at",
}
SORT_PARAMETERS = (
    Parameter("sort", "Field to sort by.", one_of(*SORTS)),
    Parameter("order", "Sort order.", one_of("asc", "desc")),
)
FILTER_PARAMETERS = (
    Parameter("tag_id", "Only those with this tag."),
    Parameter("segment_id", "Only users in this segment, or companies with a member in it."),
)
CREATED_SINCE_PARAMETER = Parameter("created_since", "Only those created within this number of days.", NUMBER)


class UserFilter(FilterSet):
    """Filters of a list of users. `created_since` is in days."""

    tag_id = ModelChoiceFilter(field_name="tags", queryset=lambda request: Tag.objects.all())
    segment_id = ModelChoiceFilter(method="in_segment", queryset=lambda request: Audience.objects.segments())
    created_since = NumberFilter(method="since", min_value=0, max_value=36_500)

    class Meta:
        model = Customer
        fields: list[str] = []

    def in_segment(self, rows: QuerySet[Customer], _name: str, segment: Audience) -> QuerySet[Customer]:
        try:
            return rows.filter(pk__in=compiler.matching_customers(segment.rules, at=timezone.now()).values("pk"))
        except RuleError as wrong:
            raise Refused(str(wrong), field="segment_id") from wrong

    def since(self, rows: QuerySet[Customer], _name: str, days: Any) -> QuerySet[Customer]:
        return rows.filter(created_at__gte=timezone.now() - timedelta(days=float(days)))


class Users(Endpoint):
    """/users."""

    parameters = {
        "get": (*PERSON_PARAMETERS, *PAGE, *SORT_PARAMETERS, *FILTER_PARAMETERS, CREATED_SINCE_PARAMETER),
        "delete": PERSON_PARAMETERS,
    }

    def post(self, request: Request) -> Response:
        """Create or update a user."""
        sent, warnings = body(request), Warnings()
        refuse_our_id(sent)
        user = intake.identify(sent, at=timezone.now(), on_bad_value=warnings.note)
        return answer_with_user(user, warnings=warnings)

    def get(self, request: Request) -> Response:
        """Find a user by user_id, email or id, or list users."""
        query = request.query_params
        if given := given_parameters(query, PERSON_PARAMETERS):
            refuse_without_effect(
                query, (*FILTER_PARAMETERS, CREATED_SINCE_PARAMETER), because=f"{given[0]} identifies one user."
            )
            return answer_with_user(intake.find_customer(query))
        return user_list(request, filter_users(request, Customer.objects.present().users()))

    def delete(self, request: Request) -> Response:
        """Archive a user by user_id, email or id."""
        return archive_and_answer(intake.find_customer(request.query_params))


class User(Endpoint):
    """/users/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Find a user."""
        return answer_with_user(intake.find_customer({"id": pk}))

    def delete(self, request: Request, pk: str) -> Response:
        """Archive a user."""
        return archive_and_answer(intake.find_customer({"id": pk}))


def archive_and_answer(customer: Customer) -> Response:
    """Archive a customer and return a response with their data from before."""
    response = answer_with_user(customer)
    intake.archive_customer(customer, at=timezone.now())
    return response


def answer_with_user(customer: Customer, *, warnings: Iterable[Refused] = ()) -> Response:
    """Return a response with one user and the warnings about fields that were not stored."""
    return Response(user_payloads([customer])[0] | payloads.warnings_payload(warnings))


def user_payloads(customers: Sequence[Customer]) -> list[payloads.Json]:
    """Return the payloads of users, with their current segments."""
    return payloads.users(customers, segments=segments_of(customers, at=timezone.now()))


def user_list(request: Request, rows: QuerySet[Customer]) -> Response:
    return person_list(request, rows, kind="user")


def person_list(request: Request, rows: QuerySet[Customer], *, kind: str) -> Response:
    """Return a response with a page of users or contacts, sorted as requested."""
    sort, order = request.query_params.get("sort") or "created_at", request.query_params.get("order") or "desc"
    if sort not in SORTS or order not in ("asc", "desc"):
        raise Refused(f"Sort by {', '.join(SORTS)}, in the order asc or desc.", field="sort")
    by, key = F(SORTS[sort]), F("pk")
    ordering = (by.asc(nulls_last=True), key.asc()) if order == "asc" else (by.desc(nulls_last=True), key.desc())
    found, pages, total = page_rows(request, rows.order_by(*ordering))
    return Response({"type": f"{kind}.list", "pages": pages, "total_count": total, f"{kind}s": user_payloads(found)})


def filter_users(request: Request, rows: QuerySet[Customer]) -> QuerySet[Customer]:
    """Return the users that match the query's filters."""
    wanted = UserFilter(request.query_params, queryset=rows)
    check_filter(wanted, request)
    return wanted.qs


def check_filter(wanted: FilterSet, request: Request) -> None:
    """Refuse an invalid filter. A tag or segment that does not exist is a 404."""
    if wanted.is_valid():
        return
    field, reasons = next(iter(wanted.errors.items()))
    if field.endswith("_id"):
        raise Unknown(f"No such {field}[{read_text(request.query_params[field], field)}]", field=field)
    raise Refused(f"{field}: {reasons[0]}", field=field)
