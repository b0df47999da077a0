"""Feedback on sent emails: accepted, bounced, refused, marked as spam, unsubscribed.

It comes from a provider's webhook, a mail server's report or a mailbox's feedback loop, late, repeatedly and in any
order. So each piece of feedback is recorded independently of the others, and recording is idempotent.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import uuid4

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from audiences.intake.identity_resolution import is_same_address
from audiences.models import ConfirmationMail, Customer, Suppression, SuppressionReason, SuppressionSource
from audiences.transactions import retried
from delivery import locks, reply_addresses
from delivery.models import AnswerMail, Conversation, DeliveryRecord, Status
from delivery.reply_addresses import Referent, ReferentKind
from delivery.sending import suppression, uncertain
from delivery.sending.uncertain import Proof
from delivery.tracking import links

log = logging.getLogger(__name__)

DOUBTFUL_NOTICE = "A mail server sent a notice about this email that Outbound does not understand"


class FeedbackType(StrEnum):
    """The kinds of feedback on an email."""

    ACCEPTED = "accepted"  # By the provider, or by the recipient's server.
    BOUNCED = "bounced"  # A soft bounce: the mailbox is full, or the server did not like the content.
    NO_MAILBOX = "no_mailbox"  # A hard bounce.
    REFUSED = "refused"  # By the provider, before it left.
    REFUSED_NO_MAILBOX = "refused_no_mailbox"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    DOUBTFUL = "doubtful"  # A server wrote about the email, but its meaning is unclear.


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One piece of feedback on one email; `address` is "" if the feedback does not name the recipient."""

    type: FeedbackType
    at: datetime
    address: str = ""
    provider_id: str = ""
    detail: str = ""


def find_referent(*, message_ids: tuple[str, ...], provider_id: str = "") -> Referent | None:
    """Return the record or answer behind an email, by Message-ID or provider ID; None if the email is not ours."""
    for message_id in message_ids:
        if (referent := reply_addresses.referent_of_message_id(message_id)) is not None:
            return referent
    if provider_id:
        pk = DeliveryRecord.objects.named_by_provider(provider_id).values_list("pk", flat=True).first()
        return Referent(ReferentKind.RECORD, pk) if pk else None
    return None


@retried
def record_feedback(referent: Referent, feedback: Feedback) -> bool:
    """Record feedback on an email; return False if its record or answer no longer exists."""
    if referent.kind is ReferentKind.RECORD:
        rows = DeliveryRecord.objects.select_related("customer", "message").filter(pk=referent.pk)
        locks.lock_customers_of(rows)
        record = rows.first()
        if record is None:
            return False
        log.info("record %s: %s", record.pk, feedback.type)
        if feedback.type not in NEVER_LEFT:
            cancel_retry(record, at=feedback.at)
        HANDLERS[feedback.type](record, feedback)
        return True
    if referent.kind is ReferentKind.CONFIRMATION:
        return record_feedback_on_confirmation(referent.pk, feedback)
    locks.lock_customers_of(Conversation.objects.filter(parts=referent.pk))
    mail = AnswerMail.objects.select_related("part__conversation__customer").filter(part=referent.pk).first()
    if referent.kind is not ReferentKind.ANSWER or mail is None:
        return False
    log.info("email of answer %s: %s", mail.part_id, feedback.type)
    record_feedback_on_answer(mail, feedback)
    return True


def cancel_retry(record: DeliveryRecord, *, at: datetime) -> None:
    """Claim a record that waits for a retry, since its email left after all; the handler settles it next."""
    tried = DeliveryRecord.objects.filter(pk=record.pk, status=Status.WAITING, taken_at__isnull=False)
    try:
        with transaction.atomic():
            tried.mark_sending(claim=uuid4(), until=at)
    except IntegrityError:
        # The record was put back, and meanwhile another record to the same address was claimed or sent.
        log.warning("record %s was sent, and so was another one to the same address", record.pk)


def handle_accepted(record: DeliveryRecord, feedback: Feedback) -> None:
    uncertain.settle_by_proof(record, proof=Proof.TAKEN, at=feedback.at, provider_id=feedback.provider_id)


def handle_bounce(record: DeliveryRecord, feedback: Feedback) -> None:
    uncertain.settle_by_proof(record, proof=Proof.BOUNCED, at=feedback.at, provider_id=feedback.provider_id)


def handle_hard_bounce(record: DeliveryRecord, feedback: Feedback) -> None:
    # Settled as accepted: `suppression.record_hard_bounce` records bounced_at itself, to tell repetitions apart.
    handle_accepted(record, feedback)
    suppression.record_hard_bounce(record, address=feedback.address, at=feedback.at)


def handle_refusal(record: DeliveryRecord, feedback: Feedback) -> None:
    """Record that the email never left; a record that is already sent is marked as bounced."""
    proof = {"proof": Proof.REFUSED, "words": feedback.detail or "The provider refused the email."}
    uncertain.settle_by_proof(record, at=feedback.at, provider_id=feedback.provider_id, **proof)  # type: ignore[arg-type]
    DeliveryRecord.objects.filter(pk=record.pk, status=Status.SENT, bounced_at=None).update(bounced_at=feedback.at)


def handle_refusal_of_address(record: DeliveryRecord, feedback: Feedback) -> None:
    """Record that the email never left, because the provider knows the address to be invalid."""
    proof = {
        "proof": Proof.REFUSED,
        "words": feedback.detail or "The provider reports that the mailbox is invalid.",
    }
    uncertain.settle_by_proof(record, at=feedback.at, provider_id=feedback.provider_id, **proof)  # type: ignore[arg-type]
    suppression.record_hard_bounce(record, address=feedback.address, at=feedback.at)


def handle_complaint(record: DeliveryRecord, feedback: Feedback) -> None:
    """Record that the recipient marked the email as spam, and unsubscribe them from all email."""
    handle_accepted(record, feedback)
    if not DeliveryRecord.objects.filter(pk=record.pk, complained_at=None).update(complained_at=feedback.at):
        return
    record = links.lock_customer_and_reload(record)
    record_complaint(record.customer, address=record.recipient_address, at=feedback.at)
    handle_unsubscribe(record, feedback)


def record_complaint(customer: Customer, *, address: str | None, at: datetime) -> None:
    """Flag the customer, and suppress the address that the email went to."""
    if address:
        suppression.lock_customers_with_address(address)
        Suppression.objects.suppress(address, SuppressionReason.COMPLAINT, source=SuppressionSource.SERVER, at=at)
    Customer.objects.filter(pk=customer.pk).update(
        marked_email_as_spam=True, complaint_is_of_address=False, updated_at=at
    )


def handle_unsubscribe(record: DeliveryRecord, feedback: Feedback) -> None:
    """Unsubscribe the recipient from all email, once per email: they may have subscribed again since.

    A record of a message with a topic may be marked as unsubscribed because of an opt-out of the topic alone.
    """
    handle_accepted(record, feedback)
    record = DeliveryRecord.objects.select_related("customer", "message").get(pk=record.pk)
    is_repeated = record.unsubscribed_at is not None
    if is_repeated and record.message.topic_id is not None:
        is_repeated = links.chose_about_all_email_since(record, since=feedback.at)
    if not is_repeated:
        links.unsubscribe(record, at=feedback.at)


def handle_doubtful_notice(record: DeliveryRecord, feedback: Feedback) -> None:
    """Show staff that a server wrote about the email; flag neither record nor customer."""
    handle_accepted(record, feedback)
    DeliveryRecord.objects.filter(pk=record.pk, status=Status.SENT, detail="").update(detail=DOUBTFUL_NOTICE)


HANDLERS: dict[FeedbackType, Callable[[DeliveryRecord, Feedback], None]] = {
    FeedbackType.ACCEPTED: handle_accepted,
    FeedbackType.BOUNCED: handle_bounce,
    FeedbackType.NO_MAILBOX: handle_hard_bounce,
    FeedbackType.REFUSED: handle_refusal,
    FeedbackType.REFUSED_NO_MAILBOX: handle_refusal_of_address,
    FeedbackType.COMPLAINED: handle_complaint,
    FeedbackType.UNSUBSCRIBED: handle_unsubscribe,
    FeedbackType.DOUBTFUL: handle_doubtful_notice,
}
NEVER_LEFT = {FeedbackType.REFUSED, FeedbackType.REFUSED_NO_MAILBOX}
NOT_RECEIVED = {FeedbackType.BOUNCED, FeedbackType.NO_MAILBOX, FeedbackType.REFUSED, FeedbackType.REFUSED_NO_MAILBOX}
ADDRESS_INVALID = {FeedbackType.NO_MAILBOX, FeedbackType.REFUSED_NO_MAILBOX}


def settle_by_feedback(found: QuerySet[AnswerMail] | QuerySet[ConfirmationMail], feedback: Feedback) -> None:
    """Mark an email that was sent one by one as failed, or an uncertain one as sent."""
    if feedback.type in NOT_RECEIVED:
        found.exclude(status__in=(Status.WAITING, Status.FAILED)).update(
            status=Status.FAILED, detail=feedback.detail or "The email bounced."
        )
    else:
        found.filter(status=Status.UNCERTAIN).update(status=Status.SENT, sent_at=feedback.at, detail="")


def record_feedback_on_confirmation(pk: int, feedback: Feedback) -> bool:
    """Record feedback on a confirmation email; return False if its address was erased."""
    mail = ConfirmationMail.objects.filter(pk=pk, address__isnull=False).first()
    if mail is None:
        return False
    address = str(mail.address)
    suppression.lock_customers_with_address(address)
    settle_by_feedback(ConfirmationMail.objects.filter(pk=pk), feedback)
    is_theirs = not feedback.address or is_same_address(feedback.address, address)
    if feedback.type in ADDRESS_INVALID and is_theirs:
        suppression.suppress_dead_mailbox(address, at=feedback.at)
    elif feedback.type is FeedbackType.COMPLAINED:
        reason, source = SuppressionReason.COMPLAINT, SuppressionSource.SERVER
        Suppression.objects.suppress(address, reason, source=source, at=feedback.at)
    return True


def record_feedback_on_answer(mail: AnswerMail, feedback: Feedback) -> None:
    """Record feedback on a teammate's answer; a complaint does not unsubscribe, as the customer wrote to us first."""
    settle_by_feedback(AnswerMail.objects.filter(pk=mail.pk), feedback)
    if feedback.type in ADDRESS_INVALID:
        suppression.suppress_bounced_recipient(mail, address=feedback.address, at=feedback.at)
    elif feedback.type is FeedbackType.COMPLAINED:
        record_complaint(mail.part.conversation.customer, address=mail.recipient_address, at=feedback.at)
