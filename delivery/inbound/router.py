"""Router of inbound emails: a reply of a customer, a report about a sent email, or neither.

A reply belongs to the customer whose signed address received it. Another sender proves nothing: people answer from a
second mailbox or pass the email to a colleague, and anyone can forge From. So the reply is accepted with a note that
names the sender, and the team's answers go to the customer's own address.
"""

import logging
import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from django.core.files.uploadedfile import SimpleUploadedFile

from audiences.intake import Refused
from audiences.intake.identity_resolution import is_same_address
from audiences.transactions import retried
from delivery import locks, reply_addresses
from delivery.conversations import attachments, threads
from delivery.inbound import bounce_texts, dsn, feedback, reply_parser
from delivery.inbound.feedback import FeedbackType
from delivery.inbound.message import Attachment, InboundEmail
from delivery.models import Conversation, ConversationPart, DeliveryRecord
from delivery.reply_addresses import Referent, ReferentKind
from delivery.sending import uncertain
from delivery.sending.uncertain import Proof
from delivery.tracking import preferences

log = logging.getLogger(__name__)

MAX_REPLY_LENGTH = 100_000
NO_TEXT = "(This email has no text.)"
# The subject of our email, with the prefix of a mail program.
ANSWERS = re.compile(r"[^\W\d_]{2,4}(?:\[\d+\])?\s?[:\uff1a]")


class Outcome(StrEnum):
    """The result of routing one inbound email."""

    REPLY = "reply"
    DUPLICATE = "duplicate"  # A reply that was received before.
    NOTICE = "notice"  # A report about one of our emails, recorded.
    DOUBTFUL = "doubtful"  # A report whose meaning is unclear: recorded, but nobody is flagged.
    FOREIGN = "foreign"  # A report about an email that is not ours.
    UNPROVEN = "unproven"  # A report about one of our emails, but not at an address where reports count.
    UNSUBSCRIBED = "unsubscribed"  # Sent to the address in the List-Unsubscribe header.
    AUTO_REPLY = "auto_reply"
    UNADDRESSED = "unaddressed"  # No valid reply address: there is none, or it is forged.


@dataclass(slots=True)
class Files:
    """The attachments of an email: those to store, and the reasons why others are refused."""

    # Each file with its image type, or None if it is not an image.
    accepted: list[tuple[SimpleUploadedFile, tuple[str, str] | None]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def receive(email: InboundEmail, *, at: datetime) -> Outcome:
    """Receive one email. Idempotent."""
    notices = dsn.read_notices(email, at=at)
    if notices is not None:
        outcome = record_notices(notices)
    elif (record := record_to_unsubscribe(email)) is not None:
        # Providers send these by themselves, maybe marked as automatic.
        preferences.unsubscribe_from_message(record, at=at)
        outcome = Outcome.UNSUBSCRIBED
    elif email.auto_reply_reason:
        outcome = Outcome.AUTO_REPLY
    else:
        outcome = record_reply(email, at=at)
    log.info(
        "email %s: %s %s", email.message_id, outcome, email.auto_reply_reason if outcome is Outcome.AUTO_REPLY else ""
    )
    return outcome


def record_to_unsubscribe(email: InboundEmail) -> DeliveryRecord | None:
    """Return the record whose recipient unsubscribes by this email; None if it came to another address."""
    pk = reply_addresses.record_to_unsubscribe(email.recipients)
    return None if pk is None else DeliveryRecord.objects.filter(pk=pk).first()


def record_notices(notices: list[dsn.Notice]) -> Outcome:
    """Record the reports that came to an address known only to servers."""
    recorded = [notice.feedback.type for notice in notices if notice.is_proven and record_notice(notice)]
    if recorded:
        return Outcome.DOUBTFUL if set(recorded) == {FeedbackType.DOUBTFUL} else Outcome.NOTICE
    for notice in notices:
        if notice.referent is not None and not notice.is_proven:
            log.warning(
                "a report says %s of %s %s, but did not come to its bounce address, so it is ignored",
                notice.feedback.type,
                notice.referent.kind.name.lower(),
                notice.referent.pk,
            )
            return Outcome.UNPROVEN
    return Outcome.FOREIGN


def record_notice(notice: dsn.Notice) -> bool:
    return notice.referent is not None and feedback.record_feedback(notice.referent, notice.feedback)


@retried
def record_reply(email: InboundEmail, *, at: datetime) -> Outcome:
    """Add an email to the conversation that it answers."""
    referent = referent_of_reply(email)
    if referent is None:
        return Outcome.UNADDRESSED
    conversation = find_conversation(referent, at=at)
    if conversation is None or conversation.customer.is_erased:
        log.warning("an email answers %s %s, which no longer exists", referent.kind.name.lower(), referent.pk)
        return Outcome.UNADDRESSED
    found = threads.lock_conversation(conversation)
    if ConversationPart.objects.filter(conversation=found, mail_id=email.message_id).exists():
        return Outcome.DUPLICATE
    if found.record is not None:
        # A reply proves that the message was delivered.
        uncertain.settle_by_proof(found.record, proof=Proof.TAKEN, at=at)
    add_reply(found, email, at=at)
    return Outcome.REPLY


def referent_of_reply(email: InboundEmail) -> Referent | None:
    """Return the record or conversation that an email answers, by its recipients, else by the Message-IDs it quotes."""
    forged = []
    for address in email.recipients:
        if (referent := reply_addresses.referent_of_reply(address)) is not None:
            return referent
        if reply_addresses.has_token(address):
            forged.append(address)
    referent = feedback.find_referent(message_ids=tuple(email.answered_ids))
    if referent is None and forged:
        log.warning("email %s was sent to a forged or damaged reply address", email.message_id)
    return referent


def find_conversation(referent: Referent, *, at: datetime) -> Conversation | None:
    """Return the conversation of a reply; the first reply to a message creates it."""
    if referent.kind is ReferentKind.RECORD:
        records = DeliveryRecord.objects.filter(pk=referent.pk)
        # Two first replies at once must not create two conversations.
        locks.lock_customers_of(records)
        record = records.first()
        return threads.conversation_of_record(record, at=at) if record else None
    rows = Conversation.objects.select_related("customer", "record")
    if referent.kind is ReferentKind.ANSWER:
        return rows.filter(parts=referent.pk).first()
    # A reply to a confirmation email goes to its sender.
    return rows.filter(pk=referent.pk).first() if referent.kind is ReferentKind.CONVERSATION else None


def add_reply(conversation: Conversation, email: InboundEmail, *, at: datetime) -> None:
    """Add an email to its conversation, with notes for the team on anything that the reply does not show."""
    customer, files = conversation.customer, sort_attachments(email)
    reply = email.reply_content
    text = reply.text or subject_as_text(email, has_files=bool(files.accepted))
    own, doubtful = reply_parser.split_doubtful_quote(text[:MAX_REPLY_LENGTH])
    folded = reply_parser.join_texts([doubtful, reply.folded])
    threads.reply_by_customer(
        conversation,
        body=own,
        may_be_quoted=folded[: MAX_REPLY_LENGTH - len(own)],
        at=at,
        attachments=[store_attachment(file, kind) for file, kind in files.accepted],
        mail_id=email.message_id,
    )
    notes = (
        other_sender_note(email, conversation),
        auto_reply_note(email),
        refused_files_note(files),
        truncation_note(length=len(text) + len(reply.folded)),
    )
    for note in notes:
        if note:
            # Notes quote untrusted names, and a text with both signs would be taken for HTML.
            plain = note.replace("<", "(").replace(">", ")")
            threads.add_note(conversation, teammate=None, body=plain, at=at)
    log.info("email %s: a reply of customer %s", email.message_id, customer.pk)


def subject_as_text(email: InboundEmail, *, has_files: bool) -> str:
    """Return a text for an email whose body is empty: some people write everything into the subject."""
    subject = email.header("Subject").strip()
    if has_files and (not subject or ANSWERS.match(subject)):
        return ""
    return f"(This email has no text. Subject: {subject})" if subject else NO_TEXT


def other_sender_note(email: InboundEmail, conversation: Conversation) -> str:
    """Return the note on a reply that came from another address than the message went to; else ""."""
    customer, record = conversation.customer, conversation.record
    known = (customer.email, record.address if record is not None else None)
    if any(address and is_same_address(address, email.sender) for address in known):
        return ""
    came = f"This reply came from {email.sender}" if email.sender else "This reply does not say who it is from"
    return f"{came}, not from {customer.email}. What you answer goes to {customer.email}." if customer.email else came


def auto_reply_note(email: InboundEmail) -> str:
    doubt = email.auto_reply_doubt or bounce_texts.find_doubt(email)
    return f"This may be an automatic reply: {doubt}." if doubt else ""


def sort_attachments(email: InboundEmail) -> Files:
    files = Files()
    for file in email.attachments:
        upload = as_upload(file)
        try:
            attachments.check_file(upload, beside=len(files.accepted))
        except Refused as wrong:
            files.refused.append(f"{upload.name} ({file.content_type}): {wrong}")
            continue
        files.accepted.append((upload, image_kind(upload)))
    return files


def image_kind(upload: SimpleUploadedFile) -> tuple[str, str] | None:
    """Return the content type and extension of an image; None if the file is not an image that we show."""
    try:
        return attachments.check_image(upload)
    except Refused:
        return None


def store_attachment(upload: SimpleUploadedFile, kind: tuple[str, str] | None) -> dict[str, object]:
    return attachments.store_image(upload, kind) if kind else attachments.store_file(upload)


def as_upload(file: Attachment) -> SimpleUploadedFile:
    return SimpleUploadedFile(attachments.safe_file_name(file.name), file.content, file.content_type)


def refused_files_note(files: Files) -> str:
    if not files.refused:
        return ""
    return "\n".join(["Attachments that were not saved:", *files.refused[:20]])


def truncation_note(*, length: int) -> str:
    if length <= MAX_REPLY_LENGTH:
        return ""
    return f"This email was longer than {MAX_REPLY_LENGTH:,} characters; the rest was cut off."
