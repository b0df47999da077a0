"""Counts of conversations, in addition to the counts of customers and companies (wire 5.13)."""

from django.db.models import Count, Q
from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api.base.lookups import admins
from audiences.api.counts import Counts
from audiences.api.payloads import Json
from audiences.intake import Refused
from delivery.models import Conversation

OPEN, CLOSED = Q(state="open"), Q(state="closed")


class AllCounts(Counts):
    """/counts."""

    def get(self, request: Request) -> Response:
        """Count everything, or one type by the given criterion."""
        if request.query_params.get("type") != "conversation":
            return super().get(request)
        by = request.query_params.get("count", "")
        if by not in ("", "admin"):
            raise Refused("count must be admin, or left out, for conversations.", field="count")
        return Response({"type": "count", "conversation": {"admin": counts_by_admin()} if by else inbox_counts()})


def inbox_counts() -> dict[str, int]:
    """Count the conversations in the inbox by assignment and state."""
    return Conversation.objects.in_inbox().aggregate(
        assigned=Count("pk", filter=OPEN & ~Q(assignee=None)),
        unassigned=Count("pk", filter=OPEN & Q(assignee=None)),
        open=Count("pk", filter=OPEN),
        closed=Count("pk", filter=CLOSED),
    )


def counts_by_admin() -> list[Json]:
    """Count the open and closed conversations of each teammate."""
    rows = Conversation.objects.in_inbox().exclude(assignee=None).values("assignee")
    counted = rows.annotate(open=Count("pk", filter=OPEN), closed=Count("pk", filter=CLOSED))
    found = {row["assignee"]: {"open": row["open"], "closed": row["closed"]} for row in counted}
    none = {"open": 0, "closed": 0}
    return [
        {"id": str(admin.pk), "name": admin.get_full_name() or admin.get_username(), **found.get(admin.pk, none)}
        for admin in admins()
    ]
