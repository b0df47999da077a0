"""Users: made and brought up to date, found, listed, archived (wire 5.10)."""

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
from audiences.api.base.openapi import NUMBER, PAGE, WHO, asked, one_of
from audiences.api.base.paging import page_rows
from audiences.api.base.query import given_parameters, refuse_without_effect
from audiences.api.base.versions import refuse_our_id
from audiences.api.segments import segments_of
from audiences.intake import Refused, Unknown, Warnings
from audiences.intake.attributes.fields import text
from audiences.models import Audience, Customer, Tag
from audiences.rules import RuleError

SORTS = {
    "created_at": "created_at",
    "updated_at": "updated_at",
    "signed_up_at": "signed_up_at",
    "last_request_at": "last_seen_at",
}
SORT_PARAMETERS = (
    asked("sort", "What to sort by.", one_of(*SORTS)),
    asked("order", "asc or desc.", one_of("asc", "desc")),
)
FILTER_PARAMETERS = (
    asked("tag_id", "Those with a tag."),
    asked("segment_id", "Those in a segment, or with somebody in it."),
)
CREATED_SINCE_PARAMETER = asked("created_since", "Those we first heard of within so many days.", NUMBER)


class UserFilter(FilterSet):
    """What a list of users can be narrowed by; created_since is in days."""

    tag_id = ModelChoiceFilter(field_name="tags", queryset=lambda request: Tag.objects.all())
    segment_id = ModelChoiceFilter(method="in_segment", queryset=lambda request: Audience.objects.segments())
    created_since = NumberFilter(method="since", min_value=0, max_value=36_500)

    class Meta:
        model = Customer
        fields: list[str] = []

    def in_segment(self, rows: QuerySet[Customer], _name: str, segment: Audience) -> QuerySet[Customer]:
        """Those the segment's rules match now."""
        try:
            return rows.filter(pk__in=compiler.customers(segment.rules, at=timezone.now()).values("pk"))
        except RuleError as wrong:
            raise Refused(str(wrong), field="segment_id") from wrong

    def since(self, rows: QuerySet[Customer], _name: str, days: Any) -> QuerySet[Customer]:
        """Those we first heard of within that many days."""
        return rows.filter(created_at__gte=timezone.now() - timedelta(days=float(days)))


class Users(Endpoint):
    """/users."""

    parameters = {"get": (*WHO, *PAGE, *SORT_PARAMETERS, *FILTER_PARAMETERS, CREATED_SINCE_PARAMETER), "delete": WHO}

    def post(self, request: Request) -> Response:
        """Make a user, or bring one up to date."""
        sent, warnings = body(request), Warnings()
        refuse_our_id(sent)
        user = intake.identify(sent, at=timezone.now(), on_bad_value=warnings.note)
        return answer_with_user(user, warnings=warnings)

    def get(self, request: Request) -> Response:
        """Find one by user_id, email or id, or list them."""
        query = request.query_params
        if named := given_parameters(query, WHO):
            refuse_without_effect(
                query, (*FILTER_PARAMETERS, CREATED_SINCE_PARAMETER), because=f"{named[0]} names one user."
            )
            return answer_with_user(intake.find(query))
        return user_list(request, filter_users(request, Customer.objects.present().users()))

    def delete(self, request: Request) -> Response:
        """Archive one by user_id or email."""
        return archive_and_answer(intake.find(request.query_params))


class User(Endpoint):
    """/users/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Find one."""
        return answer_with_user(intake.find({"id": pk}))

    def delete(self, request: Request, pk: str) -> Response:
        """Archive one."""
        return archive_and_answer(intake.find({"id": pk}))


def archive_and_answer(customer: Customer) -> Response:
    """Archive a customer, and answer with them as they were."""
    response = answer_with_user(customer)
    intake.archive(customer, at=timezone.now())
    return response


def answer_with_user(customer: Customer, *, warnings: Iterable[Refused] = ()) -> Response:
    """Answer with one user in full, and what of them was not stored."""
    return Response(user_payloads([customer])[0] | payloads.warnings_payload(warnings))


def user_payloads(customers: Sequence[Customer]) -> list[payloads.Json]:
    """Return users in full, with the segments they are in now."""
    return payloads.users(customers, segments=segments_of(customers, at=timezone.now()))


def user_list(request: Request, rows: QuerySet[Customer]) -> Response:
    """Answer with a page of users, sorted as asked for."""
    return person_list(request, rows, kind="user")


def person_list(request: Request, rows: QuerySet[Customer], *, kind: str) -> Response:
    """Answer with a page of users or contacts, sorted as asked for."""
    sort, order = request.query_params.get("sort") or "created_at", request.query_params.get("order") or "desc"
    if sort not in SORTS or order not in ("asc", "desc"):
        raise Refused(f"Sort by {', '.join(SORTS)}, in the order asc or desc.", field="sort")
    by, key = F(SORTS[sort]), F("pk")
    ordering = (by.asc(nulls_last=True), key.asc()) if order == "asc" else (by.desc(nulls_last=True), key.desc())
    found, pages, total = page_rows(request, rows.order_by(*ordering))
    return Response({"type": f"{kind}.list", "pages": pages, "total_count": total, f"{kind}s": user_payloads(found)})


def filter_users(request: Request, rows: QuerySet[Customer]) -> QuerySet[Customer]:
    """Return the users the query asks for."""
    wanted = UserFilter(request.query_params, queryset=rows)
    check_filter(wanted, request)
    return wanted.qs


def check_filter(wanted: FilterSet, request: Request) -> None:
    """Refuse a filter that makes no sense by its name; 404 where it names what is not there."""
    if wanted.is_valid():
        return
    field, reasons = next(iter(wanted.errors.items()))
    if field.endswith("_id"):
        raise Unknown(f"No such {field}[{text(request.query_params[field], field)}]", field=field)
    raise Refused(f"{field}: {reasons[0]}", field=field)
