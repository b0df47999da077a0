"""Double opt-in: an email asks people to confirm an address that is not proved (behaviour 4.30)."""

from collections.abc import Collection
from datetime import datetime

from audiences.intake.identity_resolution import Unknown
from audiences.models import ConfirmationMail, Customer, Workspace
from audiences.models.consent import askable_customers, has_not_confirmed
from audiences.transactions import retried


def ask_new_address(customer: Customer, *, at: datetime) -> None:
    """Write a confirmation email to a customer with a new address that they must confirm, if the workspace asks for it.

    Call it in the transaction that stores the address, with the row locked.
    """
    if customer.email and has_not_confirmed(customer) and Workspace.objects.filter(double_opt_in=True).exists():
        ConfirmationMail.objects.request(customer.email, customer=customer, at=at)


@retried
def ask_again(customer: Customer, *, at: datetime) -> tuple[bool, ConfirmationMail]:
    """Write a confirmation email at a teammate's request. Return whether it was, and the newest email to the address.

    It is not written if the address had one within 24 hours. Raises Unknown if the customer has no address that they
    could confirm.
    """
    locked = askable_customers().select_for_update(no_key=True).filter(pk=customer.pk).first()
    if locked is None:
        raise Unknown("There is no address to confirm.", field="email")
    is_asked = ConfirmationMail.objects.request(str(locked.email), customer=locked, at=at)
    return is_asked, ConfirmationMail.objects.of_address(locked.email).get()


@retried
def ask_several(customers: Collection[int], *, at: datetime) -> list[Customer]:
    """Write a confirmation email to each of these customers who can be asked now; return those."""
    rows = askable_customers().select_for_update(no_key=True).filter(pk__in=customers).order_by("pk")
    return [one for one in rows if ConfirmationMail.objects.request(str(one.email), customer=one, at=at)]
