"""Page-based pagination (wire 5.4)."""

from typing import Any

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param

from audiences.intake import Refused
from audiences.intake.attributes.fields import read_integer

MAX_PAGE = 1_000_000


def positive_number(request: Request, name: str, *, default: int, maximum: int) -> int:
    """Return a query parameter as a number from 1 to `maximum`; a larger one becomes `maximum`."""
    number = read_integer(request.query_params.get(name), name)
    if number is None:
        return default
    if number < 1:
        raise Refused(f"{name} must be at least 1.", field=name)
    return min(number, maximum)


def page_rows(
    request: Request, rows: QuerySet[Any], *, per_page: int = 50, maximum: int = 60
) -> tuple[list[Any], dict[str, Any], int]:
    """Return the requested page of rows, the `pages` object of the response, and the total count."""
    page = positive_number(request, "page", default=1, maximum=MAX_PAGE)
    per_page = positive_number(request, "per_page", default=per_page, maximum=maximum)
    first = (page - 1) * per_page
    found = list(rows[first : first + per_page])
    # A page that is not full is the last one, so the total is known without another query.
    total = first + len(found) if found and len(found) < per_page else rows.count() if found or first else 0
    return found, pages_payload(request, page=page, per_page=per_page, total=total), total


def request_address(request: Request) -> str:
    """Return the absolute address of the request, with the prefix /api only once."""
    return request.build_absolute_uri().replace("/api/api/", "/api/", 1)


def pages_payload(request: Request, *, page: int, per_page: int, total: int) -> dict[str, Any]:
    """Return the `pages` object. `next` is always present, null on the last page, because clients expect the key."""
    total_pages = -(-total // per_page)
    following = replace_query_param(request_address(request), "page", page + 1) if page < total_pages else None
    if following:
        following = replace_query_param(following, "per_page", per_page)
    return {"type": "pages", "next": following, "page": page, "per_page": per_page, "total_pages": total_pages}
