"""Search for users and leads by the value of one field, as API 1.3 previews it (wire 5.10)."""

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import attributes, compiler
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.errors import MissingField
from audiences.api.base.lookups import get_row
from audiences.api.users import user_payloads
from audiences.intake import Refused
from audiences.intake.attributes.fields import first_given, read_flag, read_integer, read_mapping, read_text
from audiences.intake.identity_resolution import ID, lower_case
from audiences.models import CustomAttribute, Customer
from audiences.models.customers import Role
from audiences.rules import Kind, Operator, RuleError

ORDERS = {"descending": "-pk", "ascending": "pk"}
DEFAULT_PER_PAGE, MAX_PER_PAGE = 50, 150
EQUALS = "="
EVERY_ROLE = {"match": "any", "rules": [{"attribute": "role", "operator": "is", "value": role} for role in Role.values]}


class CustomerSearch(Endpoint):
    """/customers/search."""

    # It only reads; the query does not fit into an address.
    rights = {"post": "read"}

    def post(self, request: Request) -> Response:
        """Find users and leads by the value of one field."""
        sent = body(request)
        found = customers_with_value(read_mapping(sent.get("query"), "query"))
        sort, page = read_mapping(sent.get("sort"), "sort"), read_mapping(sent.get("pagination"), "pagination")
        if (read_text(sort.get("field"), "sort.field") or "created_at") != "created_at":
            raise Refused("Customers can be sorted by created_at only.", field="sort.field")
        order = read_text(sort.get("order"), "sort.order") or "descending"
        if order not in ORDERS:
            raise Refused(f"order must be one of {', '.join(ORDERS)}.", field="sort.order")
        per_page = read_integer(page.get("per_page"), "pagination.per_page") or DEFAULT_PER_PAGE
        if per_page < 1:
            raise Refused("per_page must be at least 1.", field="pagination.per_page")
        return Response(page_payload(request, found, order=order, per_page=min(per_page, MAX_PER_PAGE), page=page))


def page_payload(
    request: Request, found: QuerySet[Customer], *, order: str, per_page: int, page: dict[str, Any]
) -> dict[str, Any]:
    """Return one page of customers; `pages.next` has the cursor of the following one."""
    total, rows = found.count(), found.order_by(ORDERS[order])
    if first_given(page, "starting_after") is not None:
        last = get_row(Customer.objects.all(), page["starting_after"], what="pagination.starting_after").pk
        rows = rows.filter(pk__gt=last) if order == "ascending" else rows.filter(pk__lt=last)
    listed = list(rows[: per_page + 1])
    # The number of a page is not known from its cursor, so it counts as the first.
    pages: dict[str, Any] = {"type": "pages", "next": None, "page": 1, "per_page": per_page}
    if len(listed) > per_page:
        listed.pop()
        pages["next"] = {"page": 2, "starting_after": str(listed[-1].pk)}
    pages["total_pages"] = -(-total // per_page)
    return {"type": "customer.list", "customers": user_payloads(listed), "pages": pages, "total_count": total}


def customers_with_value(query: dict[str, Any]) -> QuerySet[Customer]:
    """Return the present users and leads whose field has the value of the query."""
    name = read_text(query.get("field"), "query.field")
    if not name:
        raise MissingField("query.field is required", field="query.field")
    operator = read_text(query.get("operator"), "query.operator") or EQUALS
    if operator != EQUALS:
        raise Refused(f"The only operator is {EQUALS}.", field="query.operator")
    if query.get("value") in (None, "") or isinstance(query["value"], dict | list):
        raise Refused("query.value must be a text, a number, true or false.", field="query.value")
    if name == "id":
        given = read_text(query["value"], "query.value")
        rows = Customer.objects.present()
        return rows.filter(pk=int(given)) if ID.fullmatch(given) else rows.none()
    rules = {"match": "all", "rules": [equality_rule(name, query["value"]), EVERY_ROLE]}
    try:
        return compiler.matching_customers(rules, at=timezone.now())
    except RuleError as wrong:
        raise Refused(str(wrong).removeprefix("Rule 1: "), field="query.value") from wrong


def equality_rule(name: str, value: Any) -> dict[str, Any]:
    """Return the rule that a field has this value."""
    try:
        kind = attributes.find_attribute(name, catalogue=CustomAttribute.objects.catalogue()).kind
    except LookupError:
        raise Refused(f"Customers cannot be searched by {name}.", field="query.field") from None
    if kind is Kind.BOOLEAN:
        is_true = read_flag(value, "query.value")
        return {"attribute": name, "operator": Operator.IS_TRUE if is_true else Operator.IS_FALSE}
    if kind not in (Kind.TEXT, Kind.NUMBER, Kind.ROLE):
        raise Refused("Only texts, numbers, true and false, and the role can be searched.", field="query.field")
    if kind is Kind.TEXT:
        value = lower_case(read_text(value, "query.value")) if name == "email" else read_text(value, "query.value")
    return {"attribute": name, "operator": Operator.IS, "value": value}
