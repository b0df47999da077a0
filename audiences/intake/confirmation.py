"""Double opt-in: leads who give an address are asked by email to confirm it (behaviour 4.30)."""

from datetime import datetime

from audiences.intake.identity_resolution import Unknown
from audiences.models import ConfirmationMail, Customer, Workspace
from audiences.models.customers import Role
from audiences.transactions import retried


def ask_new_address(customer: Customer, *, at: datetime) -> None:
    """Write a confirmation email to a lead who has just given an address, if the workspace asks for it.

    Call it in the transaction that stores the address, with the row locked.
    """
    if customer.role == Role.LEAD and customer.email and Workspace.objects.filter(double_opt_in=True).exists():
        ConfirmationMail.objects.request(customer.email, customer=customer, at=at)


def has_address_to_confirm(customer: Customer) -> bool:
    """Return whether a confirmation email can change that the customer gets no emails."""
    flags = (customer.unsubscribed_from_emails, customer.has_hard_bounced, customer.marked_email_as_spam)
    asked = customer.role == Role.LEAD and bool(customer.email) and customer.opted_in_at is None
    return asked and customer.archived_at is None and not any(flags)


@retried
def ask_again(customer: Customer, *, at: datetime) -> bool:
    """Write a confirmation email at a teammate's request. Return False if the address had one within 24 hours.

    Raises Unknown if the customer has no address that they could confirm.
    """
    locked = Customer.objects.select_for_update(no_key=True).get(pk=customer.pk)
    if not has_address_to_confirm(locked):
        raise Unknown("There is no address to confirm.", field="email")
    return ConfirmationMail.objects.request(str(locked.email), customer=locked, at=at)
