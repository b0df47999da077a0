"""Double opt-in on the profile: whether a customer has confirmed their address, and the button that asks again."""

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from unfold.decorators import action

from audiences import intake
from audiences.models import ConfirmationMail, Customer, Workspace
from audiences.models.consent import MailStatus, askable_customers, askable_now, has_not_confirmed
from audiences.transactions import retried
from outbound.console.admin import ConsoleAdmin, answer_without_button
from outbound.console.wording import counted
from outbound.people.bulk_actions import CUSTOMERS_TICKED_MAX

# How many are asked in one transaction.
SLICE = 100
IS_OFF = "Leads do not confirm their address: an Admin can switch this on in Workspace."
PAGES = (("<path:object_id>/confirmation/", "confirmation"),)
# The state of the newest confirmation email to the address, by status.
MAIL_STATES: dict[str, str] = {
    MailStatus.WAITING: "A confirmation email is on its way.",
    MailStatus.SENDING: "A confirmation email is on its way.",
    MailStatus.UNCERTAIN: "A confirmation email may have been sent on {at}.",
    MailStatus.SENT: "A confirmation email was sent on {at}.",
    MailStatus.FAILED: "The confirmation email of {at} failed: {detail}",
    MailStatus.SKIPPED: "No confirmation email was sent: {detail}",
}
LOGGED = "Sent a confirmation email"


class OptInPages(ConsoleAdmin):
    """The actions on the confirmation of an address: for one customer, and for those ticked in the list."""

    actions: tuple[str, ...] = ("ask_ticked",)

    @action(description="Ask to confirm the address")
    def ask_ticked(self, request: HttpRequest, queryset: Any) -> None:
        """Send a confirmation email to the first of these customers who can be asked now, at most one in 24 hours."""
        if not Workspace.current().double_opt_in:
            messages.error(request, IS_OFF)
            return
        at = timezone.now()
        can_be_asked = queryset.filter(pk__in=askable_now(at=at).values("pk")).order_by("pk")
        keys = list(can_be_asked.values_list("pk", flat=True)[: CUSTOMERS_TICKED_MAX + 1])
        is_all, keys = len(keys) <= CUSTOMERS_TICKED_MAX, keys[:CUSTOMERS_TICKED_MAX]
        asked = sum(self.ask_slice(request, keys[start : start + SLICE], at=at) for start in range(0, len(keys), SLICE))
        if asked:
            messages.success(
                request, f"{counted(asked, 'confirmation email is', 'confirmation emails are')} on the way."
            )
        if not is_all:
            left = can_be_asked.exclude(pk__in=keys).count()
            messages.warning(
                request,
                f"{counted(left, 'more person', 'more people')} can be asked: choose the action again for them.",
            )
        elif rest := queryset.count() - asked:
            messages.warning(
                request,
                f"{counted(rest, 'person was', 'people were')} not asked: they need not confirm, cannot get emails, or"
                " their address got a confirmation email within the last 24 hours.",
            )

    @retried
    def ask_slice(self, request: HttpRequest, keys: list[int], *, at: datetime) -> int:
        """Send confirmation emails, with a log entry for each customer; return their number."""
        asked = intake.ask_several(keys, at=at)
        for customer in asked:
            self.note(request, customer, LOGGED)
        return len(asked)

    @retried
    def ask_to_confirm(
        self, request: HttpRequest, customer: Customer, *, at: datetime
    ) -> tuple[bool, ConfirmationMail]:
        """Send a confirmation email, with a log entry, unless it is too soon. Raises Unknown without an address."""
        is_asked, mail = intake.ask_again(customer, at=at)
        if is_asked:
            self.note(request, customer, LOGGED)
        return is_asked, mail

    def confirmation(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a confirmation email to a customer, at most one in 24 hours."""
        page = reverse("admin:audiences_customer_change", args=[object_id])
        if request.method != "POST":
            return answer_without_button(request, page)
        customer = self.get_object_or_refuse(request, object_id)
        if not Workspace.current().double_opt_in:
            messages.error(request, IS_OFF)
            return HttpResponseRedirect(page)
        try:
            is_asked, mail = self.ask_to_confirm(request, customer, at=timezone.now())
        except intake.Unknown:
            messages.error(request, "This customer has no address to confirm.")
        else:
            if is_asked:
                messages.success(request, f"A confirmation email is on its way to {mail.address}.")
            else:
                messages.error(request, too_soon(mail))
        return HttpResponseRedirect(page)


def too_soon(mail: ConfirmationMail) -> str:
    """Return why no email was sent, and when the next one can be."""
    return (
        "An address gets at most one confirmation email in 24 hours. The next one can be sent on"
        f" {moment(mail.may_be_renewed_at)}."
    )


def opt_in_card(customer: Customer) -> dict[str, Any] | None:
    """Return the state of the address for the profile; None if nobody has to confirm it."""
    if customer.opted_in_at is not None:
        return {"state": f"Confirmed on {moment(customer.opted_in_at)}.", "mail": "", "button": ""}
    if not (customer.email and has_not_confirmed(customer) and Workspace.current().double_opt_in):
        return None
    mail = ConfirmationMail.objects.of_address(customer.email).first()
    return {
        "state": "Not confirmed, so this person gets no emails to an audience.",
        "mail": MAIL_STATES[mail.status].format(at=moment(mail.sent_at or mail.requested_at), detail=mail.detail)
        if mail
        else "",
        "button": askable_customers().filter(pk=customer.pk).exists()
        and ("Send the confirmation email again" if mail else "Send a confirmation email"),
    }


def moment(at: datetime) -> str:
    return date_format(timezone.localtime(at), "j M Y, H:i")
