"""Outbox of answer and confirmation emails and of outgoing webhooks: claim, lease, back-off and expiry.

Delivery records are claimed and settled in batches, by their own code (`delivery.sending.claim` and `settle`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import uuid4

from django.db import transaction
from django.db.models import F, QuerySet

from audiences.intake.attributes.fields import replace_unstorable
from audiences.models import ConfirmationMail, Notification
from delivery.models import AnswerMail

Row = TypeVar("Row", AnswerMail, ConfirmationMail, Notification)
WAITING, SENDING = "waiting", "sending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox(Generic[Row]):
    """The rows of one model. `status` names the column with its status."""

    model: type[Row]
    status: str
    lease: timedelta
    # Delays between attempts; after the attempt that follows the last one, the row fails.
    back_off: Sequence[timedelta]

    @property
    def rows(self) -> QuerySet[Row]:
        return self.model._default_manager.all()  # noqa: SLF001 - the public way to any model's manager

    def claim(self, due: QuerySet[Row], *, at: datetime, limit: int, **facts: Any) -> list[Row]:
        """Claim due rows, the oldest first, and commit before anything is sent. Rows of other workers are skipped."""
        token = uuid4()
        with transaction.atomic():
            free = due.order_by("due_at", "pk").select_for_update(skip_locked=True, of=("self",))
            keys = list(free.values_list("pk", flat=True)[:limit])
            facts |= {self.status: SENDING, "claim": token, "leased_until": at + self.lease}
            self.rows.filter(pk__in=keys).update(attempts=F("attempts") + 1, **facts)
            return list(self.rows.filter(pk__in=keys, claim=token).order_by("pk"))

    def settle(self, row: Row, *, status: str, **facts: Any) -> bool:
        """Write the outcome and end the claim; return False if the claim is no longer valid, and write nothing."""
        if "detail" in facts:
            facts["detail"] = replace_unstorable(facts["detail"])
        facts = {**facts, self.status: status, "claim": None, "leased_until": None}
        return bool(self.rows.filter(**{self.status: SENDING}, pk=row.pk, claim=row.claim).update(**facts))

    def put_back(self, row: Row, **facts: Any) -> None:
        """Return a row to the outbox without counting the attempt."""
        self.settle(row, status=WAITING, attempts=row.attempts - 1, **facts)

    def retry(self, row: Row, *, at: datetime, **facts: Any) -> bool:
        """Schedule another attempt; return False after the last one, and write nothing."""
        if row.attempts > len(self.back_off):
            return False
        self.settle(row, status=WAITING, due_at=at + self.back_off[row.attempts - 1], **facts)
        return True

    def expired(self, at: datetime) -> QuerySet[Row]:
        """Return the rows whose worker did not settle them before its lease ended."""
        return self.rows.filter(**{self.status: SENDING}, leased_until__lt=at)
