"""Topics that a customer opts out of, and back in to, over the API or by a teammate (behaviour 4.28)."""

from datetime import datetime

from audiences.intake.identity_resolution import Conflict, Unknown
from audiences.models import Customer, MessageTopic, OptOutSource, TopicOptOut
from audiences.transactions import retried

OPTED_OUT_THEMSELVES = "The customer opted out of this topic. Only they and your teammates can undo that."


@retried
def opt_out_of_topic(customer: Customer, topic: MessageTopic, *, source: OptOutSource, at: datetime) -> None:
    """Send the customer no more messages with a topic. Idempotent."""
    # The lock keeps the customer from being merged or erased meanwhile.
    if not Customer.objects.present().filter(pk=customer.pk).lock():
        raise Unknown(f"No such id[{customer.pk}]", field="id")
    TopicOptOut.objects.opt_out([customer.pk], topic, source=source, at=at)


@retried
def opt_in_to_topic(customer: Customer, topic: MessageTopic, *, source: OptOutSource) -> bool:
    """Send the customer messages with a topic again. Return False if they did not opt out.

    The API never undoes an opt-out of the customer's own (behaviour 4.11).
    """
    Customer.objects.filter(pk=customer.pk).lock()
    found = TopicOptOut.objects.filter(customer=customer, topic=topic)
    if source is OptOutSource.API and found.filter(source=OptOutSource.CUSTOMER).exists():
        raise Conflict(OPTED_OUT_THEMSELVES, field="id")
    return bool(found.delete()[0])
