"""Records nobody can know of: what there is to go by, and staff's word for what became of them (behaviour 4.13)."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme

from audiences.transactions import retried
from delivery import tasks
from delivery.models import DeliveryRecord, Status
from delivery.sending import uncertain as uncertain_records
from messaging.models import Message
from outbound.console.admin import ReadOnlyAdmin, not_done, teammate
from outbound.console.wording import counted

A_PAGE = 50
# So many at most in one go, so that no request takes long.
MOST_AT_ONCE = 10_000
PERMISSION = "delivery.change_deliveryrecord"
PAGES = (("uncertain/", "uncertain"), ("settle/<slug:verb>/", "settle"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What staff can say of uncertain records, and what the log and the page say then."""

    do: Callable[..., list[int]]
    became: Status
    one: str
    logged: str


VERDICTS: dict[str, Verdict] = {
    "sent": Verdict(
        do=uncertain_records.mark_as_sent, became=Status.SENT, one="is marked as sent", logged="Marked as sent, by hand"
    ),
    "again": Verdict(
        do=uncertain_records.send_again, became=Status.WAITING, one="goes again", logged="Had it sent again"
    ),
}
MANY = {"sent": "are marked as sent", "again": "go again"}


class UncertainPages(ReadOnlyAdmin):
    """The page of what is uncertain, below the delivery records."""

    def uncertain(self, request: HttpRequest) -> HttpResponse:
        """List them with what is known, oldest first."""
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        message = message_of(request.GET.get("message", ""))
        rows = unsettled(message)
        after = request.GET.get("after", "")
        page = rows.filter(pk__gt=int(after)) if after.isdecimal() and len(after) < 19 else rows
        found = list(page.select_related("customer", "message", "company").order_by("pk")[: A_PAGE + 1])
        shown = found[:A_PAGE]
        return self.page(
            request,
            "outbound/uncertain.html",
            title="Uncertain",
            crumb="Uncertain",
            message=message,
            rows=[(record, uncertain_records.evidence_of(record)) for record in shown],
            total=rows.count(),
            older=shown[-1].pk if len(found) > A_PAGE else None,
            may_settle=request.user.has_perm(PERMISSION),
        )

    def settle(self, request: HttpRequest, verb: str) -> HttpResponse:
        """Do what staff say became of those ticked, or of all of one message."""
        if request.method != "POST":
            return not_done(request, way_back(request))
        if not request.user.has_perm(PERMISSION):
            raise PermissionDenied
        if verb not in VERDICTS:
            raise Http404(f"A record cannot be settled as {verb}.")
        chosen = picked(request)
        if chosen is None:
            messages.error(request, "Tick at least one.")
        else:
            self.carry_out(request, chosen, verb, at=timezone.now())
        return HttpResponseRedirect(way_back(request))

    def carry_out(self, request: HttpRequest, chosen: QuerySet[DeliveryRecord], verb: str, *, at: datetime) -> None:
        """Settle them and log each, together; say how many could not be."""
        verdict, by = VERDICTS[verb], teammate(request)

        @retried
        def settle() -> tuple[list[int], list[int]]:
            pks = list(chosen.order_by("pk").values_list("pk", flat=True)[:MOST_AT_ONCE])
            done = verdict.do(DeliveryRecord.objects.filter(pk__in=pks), at=at)
            rows = DeliveryRecord.objects.filter(pk__in=done).select_related("message", "customer")
            words = f"{verdict.logged}: from {Status.UNCERTAIN.label} to {verdict.became.label}"
            LogEntry.objects.log_actions(by.pk, rows, CHANGE, change_message=words)
            for message, count in Counter(record.message for record in rows).items():
                copies = counted(count, "uncertain copy", "uncertain copies")
                self.note(request, message, f"{verdict.logged}: {copies}")
            if verb == "again":
                transaction.on_commit(tasks.enqueue_dispatch)
            return pks, done

        pks, done = settle()
        if done:
            said = counted(len(done), f"copy {verdict.one}", f"copies {MANY[verb]}")
            messages.success(request, f"{said}.")
        if left := len(pks) - len(done):
            why = "settled already" if verb == "sent" else "settled already, or of a message that has ended"
            messages.error(request, f"{counted(left, 'was', 'were')} left as they are: {why}.")


def unsettled(message: Message | None) -> QuerySet[DeliveryRecord]:
    """What is uncertain, of one message or of all."""
    rows = DeliveryRecord.objects.filter(status=Status.UNCERTAIN)
    return rows.filter(message=message) if message else rows


def message_of(given: str) -> Message | None:
    """The message the page is about; 404 where there is none of that number."""
    if not given:
        return None
    found = Message.objects.filter(pk=given).first() if given.isdecimal() and len(given) < 19 else None
    if found is None:
        raise Http404(f"There is no message {given}.")
    return found


def picked(request: HttpRequest) -> QuerySet[DeliveryRecord] | None:
    """The records a page posted: those ticked, or all of a message; None where there are none."""
    if request.POST.get("all"):
        return unsettled(message_of(request.POST.get("message", "")))
    ticked: list[Any] = [given for given in request.POST.getlist("record") if given.isdecimal() and len(given) < 19]
    return DeliveryRecord.objects.filter(pk__in=ticked) if ticked else None


def way_back(request: HttpRequest) -> str:
    """Where the button was."""
    there = request.POST.get("next", "")
    here = url_has_allowed_host_and_scheme(there, allowed_hosts={request.get_host()})
    return there if here else reverse("admin:deliveryrecord_uncertain")
