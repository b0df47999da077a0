"""What comes back about a mail that left: taken, bounced, refused, marked as spam, unsubscribed.

By a provider's webhook, by a mail server's report, by a mailbox's feedback loop. All of it comes late, twice and in any
order, so each piece of news is written down as if it were alone, and again is no harm.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import uuid4

from django.db import IntegrityError, transaction

from audiences.models import Customer
from audiences.transactions import retried
from delivery import locks, reply_addresses
from delivery.models import AnswerMail, Conversation, DeliveryRecord, Status
from delivery.reply_addresses import Referent, ReferentKind
from delivery.sending import suppression, uncertain
from delivery.sending.uncertain import Proof
from delivery.tracking import links

log = logging.getLogger(__name__)


class FeedbackType(StrEnum):
    """What became of a mail."""

    TAKEN = "taken"  # By the provider, or by the recipient's server.
    BOUNCED = "bounced"  # This once: the mailbox is full, the mail was not liked.
    NO_MAILBOX = "no_mailbox"  # A hard bounce.
    REFUSED = "refused"  # By the provider, before it left.
    REFUSED_NO_MAILBOX = "refused_no_mailbox"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One piece of it, of one mail to one address ("" where it does not say)."""

    what: FeedbackType
    at: datetime
    address: str = ""
    provider_id: str = ""
    words: str = ""


def find(*, message_ids: tuple[str, ...], provider_id: str = "") -> Referent | None:
    """What a mail of ours was about, by its Message-ID or by its provider's name for it; None for somebody else's."""
    for message_id in message_ids:
        if (named := reply_addresses.referent_of_message_id(message_id)) is not None:
            return named
    if provider_id:
        pk = DeliveryRecord.objects.named_by_provider(provider_id).values_list("pk", flat=True).first()
        return Referent(ReferentKind.RECORD, pk) if pk else None
    return None


@retried
def record_feedback(named: Referent, news: Feedback) -> bool:
    """Write down news of a mail; False where the mail is of nothing that is there."""
    if named.kind is ReferentKind.RECORD:
        rows = DeliveryRecord.objects.select_related("customer", "message").filter(pk=named.pk)
        locks.lock_customers_of(rows)
        record = rows.first()
        if record is None:
            return False
        log.info("record %s: %s", record.pk, news.what)
        if news.what not in NEVER_LEFT:
            call_off_the_next_try(record, at=news.at)
        HANDLERS[news.what](record, news)
        return True
    locks.lock_customers_of(Conversation.objects.filter(parts=named.pk))
    mail = AnswerMail.objects.select_related("part__conversation__customer").filter(part=named.pk).first()
    if named.kind is not ReferentKind.ANSWER or mail is None:
        return False
    log.info("mail of answer %s: %s", mail.part_id, news.what)
    of_answer(mail, news)
    return True


def call_off_the_next_try(record: DeliveryRecord, *, at: datetime) -> None:
    """Have what is to be tried again be in hand, as it turns out to be: what it comes to is settled next."""
    tried = DeliveryRecord.objects.filter(pk=record.pk, status=Status.WAITING, taken_at__isnull=False)
    try:
        with transaction.atomic():
            tried.mark_sending(claim=uuid4(), until=at)
    except IntegrityError:
        # Somebody else at its address has it in hand, or has got it, since this one was put back.
        log.warning("record %s left, and so did the one to the same inbox", record.pk)


def taken(record: DeliveryRecord, news: Feedback) -> None:
    """It left, if anybody wondered."""
    uncertain.settle_by_proof(record, proof=Proof.TAKEN, at=news.at, provider_id=news.provider_id)


def bounced(record: DeliveryRecord, news: Feedback) -> None:
    """It left, and came back."""
    uncertain.settle_by_proof(record, proof=Proof.BOUNCED, at=news.at, provider_id=news.provider_id)


def no_mailbox(record: DeliveryRecord, news: Feedback) -> None:
    """It left, came back, and the next one would."""
    # As taken: the moment it bounced is noted with what that means, so that a repetition is told from news.
    taken(record, news)
    suppression.record_hard_bounce(record, address=news.address, at=news.at)


def refused(record: DeliveryRecord, news: Feedback) -> None:
    """It never left; if it was thought to have, it came back."""
    proof = {"proof": Proof.REFUSED, "words": news.words or "The provider refused it."}
    uncertain.settle_by_proof(record, at=news.at, provider_id=news.provider_id, **proof)  # type: ignore[arg-type]
    DeliveryRecord.objects.filter(pk=record.pk, status=Status.SENT, bounced_at=None).update(bounced_at=news.at)


def refused_no_mailbox(record: DeliveryRecord, news: Feedback) -> None:
    """It never left, nor would the next."""
    proof = {"proof": Proof.REFUSED, "words": news.words or "The provider knows that there is no such mailbox."}
    uncertain.settle_by_proof(record, at=news.at, provider_id=news.provider_id, **proof)  # type: ignore[arg-type]
    suppression.record_hard_bounce(record, address=news.address, at=news.at)


def complained(record: DeliveryRecord, news: Feedback) -> None:
    """Its recipient called it spam: they get no more, by any list."""
    taken(record, news)
    if not DeliveryRecord.objects.filter(pk=record.pk, complained_at=None).update(complained_at=news.at):
        return
    Customer.objects.filter(pk=record.customer_id).update(marked_email_as_spam=True, updated_at=news.at)
    unsubscribed(record, news)


def unsubscribed(record: DeliveryRecord, news: Feedback) -> None:
    """Its recipient wants no more; said once for each mail, as they may have changed their mind since."""
    taken(record, news)
    if DeliveryRecord.objects.filter(pk=record.pk, unsubscribed_at=None).exists():
        links.unsubscribe(record, at=news.at)


HANDLERS: dict[FeedbackType, Callable[[DeliveryRecord, Feedback], None]] = {
    FeedbackType.TAKEN: taken,
    FeedbackType.BOUNCED: bounced,
    FeedbackType.NO_MAILBOX: no_mailbox,
    FeedbackType.REFUSED: refused,
    FeedbackType.REFUSED_NO_MAILBOX: refused_no_mailbox,
    FeedbackType.COMPLAINED: complained,
    FeedbackType.UNSUBSCRIBED: unsubscribed,
}
NEVER_LEFT = {FeedbackType.REFUSED, FeedbackType.REFUSED_NO_MAILBOX}
NOT_RECEIVED = {FeedbackType.BOUNCED, FeedbackType.NO_MAILBOX, FeedbackType.REFUSED, FeedbackType.REFUSED_NO_MAILBOX}
NOBODY_THERE = {FeedbackType.NO_MAILBOX, FeedbackType.REFUSED_NO_MAILBOX}


def of_answer(mail: AnswerMail, news: Feedback) -> None:
    """The same for the mail of a teammate's answer, which no report counts; who is answered wrote to us first."""
    customer = mail.part.conversation.customer
    found = AnswerMail.objects.filter(pk=mail.pk)
    if news.what in NOT_RECEIVED:
        found.exclude(status__in=(Status.WAITING, Status.FAILED)).update(
            status=Status.FAILED, detail=news.words or "It came back."
        )
    else:
        found.filter(status=Status.UNCERTAIN).update(status=Status.SENT, sent_at=news.at, detail="")
    if news.what in NOBODY_THERE:
        suppression.flag_hard_bounce(customer.pk, address=news.address, at=news.at)
    elif news.what is FeedbackType.COMPLAINED:
        Customer.objects.filter(pk=customer.pk).update(marked_email_as_spam=True, updated_at=news.at)
