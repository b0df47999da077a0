"""All users or leads from the first to the last, for those who take them all: lists by the page end (wire 5.4)."""

from django.core import signing
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api.base.endpoint import Endpoint
from audiences.api.base.openapi import asked
from audiences.api.leads import present_leads
from audiences.api.users import user_payloads
from audiences.intake import Unknown
from audiences.models import Customer

SALT = "scroll"
SCROLL_SIZE = 100
# Whoever takes longer between two steps than this begins again.
SCROLL_LIFETIME = 24 * 3600
SCROLL_PARAMETERS = (asked("scroll_param", "Where the last step ended, as it was answered."),)


class UserScroll(Endpoint):
    """/users/scroll."""

    parameters = {"get": SCROLL_PARAMETERS}

    def get(self, request: Request) -> Response:
        """Answer with the next hundred users; an empty list is the end."""
        return scroll_page(request, Customer.objects.present().users(), kind="user")


class LeadScroll(Endpoint):
    """/contacts/scroll."""

    parameters = {"get": SCROLL_PARAMETERS}

    def get(self, request: Request) -> Response:
        """Answer with the next hundred leads; an empty list is the end."""
        return scroll_page(request, present_leads(), kind="contact")


def scroll_page(request: Request, rows: QuerySet[Customer], *, kind: str) -> Response:
    """Answer with those after where the last step ended, which the scroll_param says and nobody keeps."""
    after = scroll_position(request.query_params.get("scroll_param", ""))
    found = list(rows.filter(pk__gt=after).order_by("pk")[:SCROLL_SIZE])
    here = signing.dumps(found[-1].pk if found else after, salt=SALT)
    return Response({"type": f"{kind}.list", "scroll_param": here, f"{kind}s": user_payloads(found)})


def scroll_position(scroll_param: str) -> int:
    """Where the last step ended; 0 before the first."""
    if not scroll_param:
        return 0
    try:
        return int(signing.loads(scroll_param, salt=SALT, max_age=SCROLL_LIFETIME))
    except signing.BadSignature as wrong:
        raise Unknown("No such scroll_param, or it is over: begin again.", field="scroll_param") from wrong
