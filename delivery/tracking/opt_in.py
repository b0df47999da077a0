"""Double opt-in: the link of a confirmation email, and what it confirms (behaviour 4.30)."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum

from audiences.models import ConfirmationMail, Customer
from audiences.models.consent import confirm_address
from audiences.transactions import retried
from delivery import tokens

LINK_VALID_FOR = timedelta(days=30)


class LinkState(StrEnum):
    """What a link can do; each has its own page."""

    ASKS = "asks"
    CONFIRMED = "confirmed"
    CONFIRMED_BEFORE = "confirmed before"
    EXPIRED = "expired"
    CHANGED = "changed"  # No customer has the address any more.
    ERASED = "erased"
    INVALID = "invalid"


def read_link(token: str, *, at: datetime) -> tuple[LinkState, ConfirmationMail | None]:
    """Return what a link can do now, and its email if the link is ours."""
    numbers = tokens.read_token(token, purpose="confirm", numbers=2)
    if numbers is None:
        return LinkState.INVALID, None
    mail = ConfirmationMail.objects.filter(pk=numbers[0]).first()
    if mail is None or mail.address is None:
        return LinkState.ERASED, mail
    owners = list(Customer.objects.with_address(mail.address).values_list("opted_in_at", flat=True))
    if not owners:
        return LinkState.CHANGED, mail
    if None not in owners:
        return LinkState.CONFIRMED_BEFORE, mail
    if at >= datetime.fromtimestamp(numbers[1], tz=UTC) + LINK_VALID_FOR:
        return LinkState.EXPIRED, mail
    return LinkState.ASKS, mail


@retried
def confirm(token: str, *, at: datetime) -> tuple[LinkState, ConfirmationMail | None]:
    """Confirm the address of a link for each customer who has it now. Return what happened. Idempotent."""
    state, mail = read_link(token, at=at)
    if mail is None or mail.address is None:
        return state, mail
    Customer.objects.with_address(mail.address).lock()
    state, mail = read_link(token, at=at)
    if state is LinkState.ASKS and mail is not None and confirm_address(mail, at=at):
        return LinkState.CONFIRMED, mail
    return state, mail
