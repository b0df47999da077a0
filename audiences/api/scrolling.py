"""All users or leads from the first to the last, for those who take them all: lists by the page end (wire 5.4)."""

from django.core import signing
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api.base.endpoint import Endpoint
from audiences.api.base.openapi import asked
from audiences.api.leads import leads
from audiences.api.users import in_full
from audiences.intake import Unknown
from audiences.models import Customer

SALT = "scroll"
AT_ONCE = 100
# Whoever takes longer between two steps than this begins again.
LASTS = 24 * 3600
SCROLL = (asked("scroll_param", "Where the last step ended, as it was answered."),)


class UserScroll(Endpoint):
    """/users/scroll."""

    parameters = {"get": SCROLL}

    def get(self, request: Request) -> Response:
        """Answer with the next hundred users; an empty list is the end."""
        return step(request, Customer.objects.present().users(), kind="user")


class LeadScroll(Endpoint):
    """/contacts/scroll."""

    parameters = {"get": SCROLL}

    def get(self, request: Request) -> Response:
        """Answer with the next hundred leads; an empty list is the end."""
        return step(request, leads(), kind="contact")


def step(request: Request, rows: QuerySet[Customer], *, kind: str) -> Response:
    """Answer with those after where the last step ended, which the scroll_param says and nobody keeps."""
    after = position(request.query_params.get("scroll_param", ""))
    found = list(rows.filter(pk__gt=after).order_by("pk")[:AT_ONCE])
    here = signing.dumps(found[-1].pk if found else after, salt=SALT)
    return Response({"type": f"{kind}.list", "scroll_param": here, f"{kind}s": in_full(found)})


def position(scroll_param: str) -> int:
    """Where the last step ended; 0 before the first."""
    if not scroll_param:
        return 0
    try:
        return int(signing.loads(scroll_param, salt=SALT, max_age=LASTS))
    except signing.BadSignature as wrong:
        raise Unknown("No such scroll_param, or it is over: begin again.", field="scroll_param") from wrong
