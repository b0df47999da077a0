"""Ten people who match some rules, by name, below a count."""

from datetime import datetime, timedelta

from django.db.utils import OperationalError
from django.http import HttpRequest

from audiences.compiler import compile_tree
from audiences.models import Customer
from audiences.rules import Group
from audiences.transactions import time_limit

SHOWN = 10
# Names are only an aid, so a rule that few people match is not searched for longer.
TIME_LIMIT = timedelta(seconds=3)


def matching_people(request: HttpRequest, tree: Group, *, at: datetime, within: timedelta | None) -> list[Customer]:
    """Return the newest customers who match; none if the search takes too long, or the teammate may not see people."""
    if not request.user.has_perm("audiences.view_customer"):
        return []
    condition = compile_tree(tree)
    statement = (
        f"SELECT DISTINCT customer_id FROM ({condition.pairs(per_company=False)}) AS pairs"  # noqa: S608 - compiled
        f" ORDER BY customer_id DESC LIMIT {SHOWN}"
    )
    try:
        with time_limit(within or TIME_LIMIT) as cursor:
            cursor.execute(statement, {**condition.params, "now": at})
            keys = [key for (key,) in cursor.fetchall()]
    except OperationalError:
        return []
    return list(Customer.objects.filter(pk__in=keys).order_by("-pk"))
