"""Double opt-in on the profile: whether a lead has confirmed their address, and the button that asks again."""

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
from audiences.models.consent import MailStatus
from audiences.models.customers import Role
from audiences.transactions import retried
from outbound.console.admin import ConsoleAdmin, answer_without_button
from outbound.console.wording import counted
from outbound.people.bulk_actions import CUSTOMERS_TICKED_MAX

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


class OptInPages(ConsoleAdmin):
    """The actions on the confirmation of an address: for one lead, and for those ticked in the list."""

    actions: tuple[str, ...] = ("ask_ticked",)

    @action(description="Ask to confirm the address")
    def ask_ticked(self, request: HttpRequest, queryset: Any) -> None:
        """Send a confirmation email to each of these leads who has not confirmed, at most one in 24 hours."""
        if not Workspace.current().double_opt_in:
            messages.error(request, IS_OFF)
            return
        customers, at = list(queryset.order_by("pk")[:CUSTOMERS_TICKED_MAX]), timezone.now()
        asked = sum(self.ask_to_confirm(request, customer, at=at) is True for customer in customers)
        if asked:
            messages.success(
                request, f"{counted(asked, 'confirmation email is', 'confirmation emails are')} on the way."
            )
        if rest := len(customers) - asked:
            messages.warning(
                request,
                f"{counted(rest, 'person was', 'people were')} not asked: they have no address to confirm, or it got a"
                " confirmation email within the last 24 hours.",
            )

    @retried
    def ask_to_confirm(self, request: HttpRequest, customer: Customer, *, at: datetime) -> bool | None:
        """Send a confirmation email, with a log entry. Return False if it is too soon, None without an address."""
        try:
            is_asked = intake.ask_again(customer, at=at)
        except intake.Unknown:
            return None
        if is_asked:
            self.note(request, customer, "Sent a confirmation email")
        return is_asked

    def confirmation(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a confirmation email to a lead, at most one in 24 hours."""
        page = reverse("admin:audiences_customer_change", args=[object_id])
        if request.method != "POST":
            return answer_without_button(request, page)
        customer = self.get_object_or_refuse(request, object_id)
        if not Workspace.current().double_opt_in:
            messages.error(request, IS_OFF)
            return HttpResponseRedirect(page)
        is_asked = self.ask_to_confirm(request, customer, at=timezone.now())
        if is_asked is None:
            messages.error(request, "This customer has no address to confirm.")
        elif is_asked:
            messages.success(request, f"A confirmation email is on its way to {customer.email}.")
        else:
            messages.error(request, too_soon(customer))
        return HttpResponseRedirect(page)


def too_soon(customer: Customer) -> str:
    """Return why no email was sent, and when the next one can be."""
    mail = ConfirmationMail.objects.of_address(customer.email).get()
    return (
        "An address gets at most one confirmation email in 24 hours. The next one can be sent on"
        f" {moment(mail.may_be_renewed_at)}."
    )


def opt_in_card(customer: Customer) -> dict[str, Any] | None:
    """Return the state of the address for the profile; None if nobody has to confirm it."""
    is_asked = customer.role == Role.LEAD and bool(customer.email) and Workspace.current().double_opt_in
    if customer.opted_in_at is not None:
        return {"state": f"Confirmed on {moment(customer.opted_in_at)}.", "mail": "", "button": ""}
    if not is_asked:
        return None
    mail = ConfirmationMail.objects.of_address(customer.email).first()
    return {
        "state": "Not confirmed, so this lead gets no emails to an audience.",
        "mail": MAIL_STATES[mail.status].format(at=moment(mail.sent_at or mail.requested_at), detail=mail.detail)
        if mail
        else "",
        "button": intake.has_address_to_confirm(customer)
        and ("Send the confirmation email again" if mail else "Send a confirmation email"),
    }


def moment(at: datetime) -> str:
    return date_format(timezone.localtime(at), "j M Y, H:i")
