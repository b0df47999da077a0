"""A mail has come: somebody's reply, what a server says of a mail of ours, or nobody's.

A reply is whoever's our signed address was given to. That it comes from another address than the customer's proves
nothing either way: people answer from a second mailbox, and a colleague takes over; and anybody can write anything into
From. So it is taken, with a note that names the address, and what the team answers goes to the customer's own.
"""

import logging
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from django.core.files.uploadedfile import SimpleUploadedFile

from audiences.intake import Refused
from audiences.transactions import retried
from delivery import locks, reply_addresses
from delivery.conversations import attachments, threads
from delivery.inbound import dsn, feedback
from delivery.inbound.message import Attachment, InboundEmail
from delivery.models import Conversation, ConversationPart, DeliveryRecord
from delivery.reply_addresses import Referent, ReferentKind
from delivery.sending import uncertain
from delivery.sending.uncertain import Proof

log = logging.getLogger(__name__)

LONGEST_REPLY = 100_000
NO_WORDS = "(This mail holds no words.)"


class Outcome(StrEnum):
    """What became of a mail that came in."""

    REPLY = "reply"
    AGAIN = "again"  # It came before.
    NOTICE = "notice"  # Of a mail of ours, and written down.
    FOREIGN = "foreign"  # A notice of somebody else's mail.
    UNPROVEN = "unproven"  # A notice of a mail of ours, but not at an address where such notices count.
    BY_NOBODY = "by_nobody"
    NOBODYS = "nobodys"  # To no address of ours: none is named, or a forged one.


@dataclass(slots=True)
class Files:
    """What came with a mail: what is kept, and why the rest is not."""

    # Each as a form would bring it, and the kind of image it is: None where it is another file.
    kept: list[tuple[SimpleUploadedFile, tuple[str, str] | None]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def receive(letter: InboundEmail, *, at: datetime) -> Outcome:
    """Take in one mail; again is no harm."""
    told = dsn.read_notices(letter, at=at)
    if told is not None:
        outcome = outcome_of(told)
    elif letter.auto_reply_reason:
        outcome = Outcome.BY_NOBODY
    else:
        outcome = reply(letter, at=at)
    log.info(
        "mail %s: %s %s", letter.message_id, outcome, letter.auto_reply_reason if outcome is Outcome.BY_NOBODY else ""
    )
    return outcome


def outcome_of(told: list[dsn.Notice]) -> Outcome:
    """Write down what a server says of a mail of ours, if it came where only servers write."""
    known = [notice.counts and taken(notice) for notice in told]
    if any(known):
        return Outcome.NOTICE
    for notice in told:
        if notice.named is not None and not notice.counts:
            log.warning(
                "a report says %s of %s %s, but did not come to its bounce address, so it is not counted",
                notice.news.what,
                notice.named.kind.name.lower(),
                notice.named.pk,
            )
            return Outcome.UNPROVEN
    return Outcome.FOREIGN


def taken(notice: dsn.Notice) -> bool:
    """Write down what a server says, if it is of a mail of ours."""
    return notice.named is not None and feedback.record_feedback(notice.named, notice.news)


@retried
def reply(letter: InboundEmail, *, at: datetime) -> Outcome:
    """Add what a customer wrote to the conversation it is about."""
    named = whom_it_answers(letter)
    if named is None:
        return Outcome.NOBODYS
    conversation = conversation_of(named, at=at)
    if conversation is None or conversation.customer.is_erased:
        log.warning("a mail answers %s %s, which is not there any more", named.kind.name.lower(), named.pk)
        return Outcome.NOBODYS
    found = threads.lock(conversation)
    if ConversationPart.objects.filter(conversation=found, mail_id=letter.message_id).exists():
        return Outcome.AGAIN
    if found.record is not None:
        # Who answers it has it.
        uncertain.settle_by_proof(found.record, proof=Proof.TAKEN, at=at)
    add(found, letter, at=at)
    return Outcome.REPLY


def whom_it_answers(letter: InboundEmail) -> Referent | None:
    """What a mail is an answer to: by the address it went to, else by the Message-ID of ours it names."""
    forged = []
    for address in letter.recipients:
        if (named := reply_addresses.referent_of_reply(address)) is not None:
            return named
        if reply_addresses.has_token(address):
            forged.append(address)
    named = feedback.find(message_ids=tuple(letter.answers))
    if named is None and forged:
        log.warning("mail %s was written to an address that is forged or broken", letter.message_id)
    return named


def conversation_of(named: Referent, *, at: datetime) -> Conversation | None:
    """The conversation an answer belongs to; that of a message begins with its first."""
    if named.kind is ReferentKind.RECORD:
        records = DeliveryRecord.objects.filter(pk=named.pk)
        # So that two first answers do not begin two.
        locks.lock_customers_of(records)
        record = records.first()
        return threads.begun_by(record, at=at) if record else None
    rows = Conversation.objects.select_related("customer", "record")
    if named.kind is ReferentKind.ANSWER:
        return rows.filter(parts=named.pk).first()
    return rows.filter(pk=named.pk).first()


def add(conversation: Conversation, letter: InboundEmail, *, at: datetime) -> None:
    """Add a mail to its conversation, and tell the team what it does not show."""
    customer, files = conversation.customer, sorted_out(letter)
    words = letter.written[0]
    threads.reply_by_customer(
        conversation,
        body=words[:LONGEST_REPLY] or ("" if files.kept else NO_WORDS),
        at=at,
        attachments=[store_attachment(file, kind) for file, kind in files.kept],
        mail_id=letter.message_id,
    )
    for told in (from_elsewhere(letter, conversation), not_kept(files), cut_off(words)):
        if told:
            # As it was written by who knows whom, it is no HTML.
            plain = told.replace("<", "(").replace(">", ")")
            threads.note(conversation, teammate=None, body=plain, at=at)
    log.info("mail %s: a reply of customer %s", letter.message_id, customer.pk)


def from_elsewhere(letter: InboundEmail, conversation: Conversation) -> str:
    """What to know where a reply came from another address than the message went to; empty where it did not."""
    customer, record = conversation.customer, conversation.record
    known = {customer.email, record.address if record is not None else None} - {None, ""}
    if letter.sender in known:
        return ""
    came = f"This reply came from {letter.sender}" if letter.sender else "This reply does not say who it is from"
    return f"{came}, not from {customer.email}. What you answer goes to {customer.email}." if customer.email else came


def sorted_out(letter: InboundEmail) -> Files:
    """Which files are kept: all, as far as their number and size go."""
    files = Files()
    for file in letter.enclosed:
        upload = as_upload(file)
        try:
            attachments.check_file(upload, beside=len(files.kept))
        except Refused as wrong:
            files.refused.append(f"{upload.name} ({file.content_type}): {wrong}")
            continue
        files.kept.append((upload, image_kind(upload)))
    return files


def image_kind(upload: SimpleUploadedFile) -> tuple[str, str] | None:
    """The kind of image a file is, by how it begins; None where it is none that is shown."""
    try:
        return attachments.check(upload)
    except Refused:
        return None


def store_attachment(upload: SimpleUploadedFile, kind: tuple[str, str] | None) -> dict[str, object]:
    """Store one file, and return it as an attachment."""
    return attachments.store_image(upload, kind) if kind else attachments.keep_file(upload)


def as_upload(file: Attachment) -> SimpleUploadedFile:
    """A file as a form would bring it."""
    return SimpleUploadedFile(attachments.called(file.name), file.content, file.content_type)


def not_kept(files: Files) -> str:
    """Which files the customer sent that nobody here has; empty where all are."""
    if not files.refused:
        return ""
    return "\n".join(["What came with this mail and was not kept:", *files.refused[:20]])


def cut_off(words: str) -> str:
    """That there was more; empty where there was not."""
    return f"This mail was longer than {LONGEST_REPLY:,} characters; the rest was cut off." * (
        len(words) > LONGEST_REPLY
    )
