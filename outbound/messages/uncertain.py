"""Uncertain records: their evidence, and a teammate's decision whether they were sent (behaviour 4.13)."""

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
from outbound.console.admin import ReadOnlyAdmin, answer_without_button, teammate
from outbound.console.wording import counted

PAGE_SIZE = 50
# The limit of one request, so that it stays short.
SETTLE_LIMIT = 10_000
PERMISSION = "delivery.change_deliveryrecord"
PAGES = (("uncertain/", "uncertain"), ("settle/<slug:verb>/", "settle"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A decision on uncertain records: its function, the new status and the words for page and log."""

    do: Callable[..., list[int]]
    became: Status
    one: str
    logged: str


VERDICTS: dict[str, Verdict] = {
    "sent": Verdict(
        do=uncertain_records.mark_as_sent, became=Status.SENT, one="is marked as sent", logged="Marked as sent manually"
    ),
    "again": Verdict(
        do=uncertain_records.send_again, became=Status.WAITING, one="will be sent again", logged="Sent again"
    ),
}
MANY = {"sent": "are marked as sent", "again": "will be sent again"}


class UncertainPages(ReadOnlyAdmin):
    """The pages of uncertain records, below the delivery records."""

    def uncertain(self, request: HttpRequest) -> HttpResponse:
        """List uncertain records with their evidence, oldest first."""
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        message = message_of(request.GET.get("message", ""))
        rows = unsettled(message)
        after = request.GET.get("after", "")
        page = rows.filter(pk__gt=int(after)) if after.isdecimal() and len(after) < 19 else rows
        found = list(page.select_related("customer", "message", "company").order_by("pk")[: PAGE_SIZE + 1])
        shown = found[:PAGE_SIZE]
        return self.page(
            request,
            "outbound/messages/uncertain.html",
            title="Uncertain",
            crumb="Uncertain",
            message=message,
            rows=[(record, uncertain_records.evidence_of(record)) for record in shown],
            total=rows.count(),
            older=shown[-1].pk if len(found) > PAGE_SIZE else None,
            may_settle=request.user.has_perm(PERMISSION),
        )

    def settle(self, request: HttpRequest, verb: str) -> HttpResponse:
        """Settle the selected records, or all of one message, as staff decided."""
        if request.method != "POST":
            return answer_without_button(request, return_url(request))
        if not request.user.has_perm(PERMISSION):
            raise PermissionDenied
        if verb not in VERDICTS:
            raise Http404(f"A record cannot be settled as {verb}.")
        chosen = posted_records(request)
        if chosen is None:
            messages.error(request, "Select at least one.")
        else:
            self.carry_out(request, chosen, verb, at=timezone.now())
        return HttpResponseRedirect(return_url(request))

    def carry_out(self, request: HttpRequest, chosen: QuerySet[DeliveryRecord], verb: str, *, at: datetime) -> None:
        """Settle the records and log each in one transaction; report how many could not be settled."""
        verdict, by = VERDICTS[verb], teammate(request)

        @retried
        def settle() -> tuple[list[int], list[int]]:
            pks = list(chosen.order_by("pk").values_list("pk", flat=True)[:SETTLE_LIMIT])
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
            why = "already settled" if verb == "sent" else "already settled, or the message has ended"
            messages.error(request, f"{left:,} could not be changed: {why}.")


def unsettled(message: Message | None) -> QuerySet[DeliveryRecord]:
    """Return the uncertain records of one message or of all."""
    rows = DeliveryRecord.objects.filter(status=Status.UNCERTAIN)
    return rows.filter(message=message) if message else rows


def message_of(given: str) -> Message | None:
    """Return the message of the page; raise Http404 if it does not exist."""
    if not given:
        return None
    found = Message.objects.filter(pk=given).first() if given.isdecimal() and len(given) < 19 else None
    if found is None:
        raise Http404(f"There is no message {given}.")
    return found


def posted_records(request: HttpRequest) -> QuerySet[DeliveryRecord] | None:
    """Return the posted records: the selected ones, or all of a message; None if there are none."""
    if request.POST.get("all"):
        return unsettled(message_of(request.POST.get("message", "")))
    ticked: list[Any] = [given for given in request.POST.getlist("record") if given.isdecimal() and len(given) < 19]
    return DeliveryRecord.objects.filter(pk__in=ticked) if ticked else None


def return_url(request: HttpRequest) -> str:
    """Return the URL of the page with the button."""
    there = request.POST.get("next", "")
    here = url_has_allowed_host_and_scheme(there, allowed_hosts={request.get_host()})
    return there if here else reverse("admin:deliveryrecord_uncertain")
