"""Forwarding: a customer who has not been back since a teammate answered gets the answer by email, once.

An answer has one row (`AnswerMail`), made with it. It is claimed and committed before the first byte leaves, and
settled by who claimed it; where nobody can know whether a mail left, it is not sent again.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import formataddr

from django.conf import settings
from django.contrib.auth.models import User
from django.core.signing import Signer
from django.db import transaction
from django.template.loader import render_to_string

from audiences.intake.attributes.fields import replace_unstorable
from audiences.models import Workspace
from delivery import rendering, shutdown
from delivery.channels import ChannelDown, Envelope, NoSuchMailbox, Rejected, Unavailable
from delivery.matching import direct
from delivery.models import AnswerMail, ChannelOutage, Conversation, ConversationPart, DeliveryRecord, PartType, Status
from delivery.reply_addresses import ReferentKind, reply_address, return_path
from delivery.sending import batch, outcome, suppression, throttle
from messaging.content import ContentError
from messaging.content.plain_text import html_to_text
from messaging.models import Channel, Sender

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
# How long a worker is believed to be alive with a mail in hand.
LEASE = timedelta(minutes=10)
LONGEST_QUOTE = 600
RELATED = ("part__teammate", "part__conversation__customer", "part__conversation__record__message__sender")


def forward(*, clock: Clock, until: datetime) -> int:
    """Mail the answers that are due, one after the other, until none is left or mail is not taken; returns how many."""
    mailed = 0
    with shutdown.graceful_shutdown():
        expire_leases(at=clock())
        while clock() < until and not shutdown.is_requested() and AnswerMail.objects.due(clock()).exists():
            if Channel.EMAIL in ChannelOutage.unavailable_channels(at=clock()):
                break
            mail = claim(at=clock())
            if mail is None:
                break
            if why := needless(mail.part):
                settle_answer_email(mail, status=Status.SKIPPED, detail=why)
            elif not in_its_turn(mail, clock=clock):
                # The next sweep goes on.
                settle_answer_email(mail, status=Status.WAITING, attempts=mail.attempts - 1)
                break
            else:
                mailed += 1
    return mailed


def in_its_turn(mail: AnswerMail, *, clock: Clock) -> bool:
    """Hand one mail over when what holds email back lets it go; False where nothing can go right now."""
    if Channel.EMAIL not in throttle.load_limits():
        return send_answer_email(mail, clock=clock)
    places = throttle.acquire(Channel.EMAIL, wanted=1, at=clock())
    if places is None:
        return False
    places.wait(0, unless=shutdown.is_requested)
    went = bool(places.count) and not shutdown.is_requested() and send_answer_email(mail, clock=clock)
    throttle.release(Channel.EMAIL, places=places, unused=0 if went else places.count)
    return went


def claim(*, at: datetime) -> AnswerMail | None:
    """Take one that is due in hand, and commit that; None where all that is due is in other hands."""
    with transaction.atomic():
        due = AnswerMail.objects.due(at).select_for_update(skip_locked=True).order_by("due_at", "pk")
        pk = due.values_list("pk", flat=True).first()
        if pk is None:
            return None
        taken = AnswerMail.objects.filter(pk=pk)
        mail = taken.select_related(*RELATED).get()
        mail.status, mail.taken_at, mail.attempts = Status.SENDING, at, mail.attempts + 1
        mail.save(update_fields=["status", "taken_at", "attempts"])
    return mail


def needless(part: ConversationPart) -> str:
    """Why this answer is not mailed, in words; empty where it is to be."""
    conversation = part.conversation
    customer = conversation.customer
    if conversation.read:
        return "They read it in the messenger."
    if customer.last_seen_at is not None and customer.last_seen_at >= part.created_at:
        return "They were here since."
    # Who unsubscribed may be answered: they wrote to us.
    reason = direct.unreachable_reason(customer, channel=Channel.EMAIL)
    return direct.UNREACHABLE_ERRORS[reason].format(customer=customer) if reason else ""


def send_answer_email(mail: AnswerMail, *, clock: Clock) -> bool:
    """Hand one mail over and note how it went; False where nothing more can be handed over right now."""
    try:
        finished = envelope(mail.part)
    except Exception:
        log.exception("answer %s cannot be mailed", mail.part_id)
        settle_answer_email(mail, status=Status.FAILED, detail="Its mail could not be written.")
        return True
    try:
        provider_id = batch.channel_of(Channel.EMAIL).send(finished)
    except NoSuchMailbox as reason:
        settle_answer_email(mail, status=Status.FAILED, detail=str(reason))
        suppression.flag_hard_bounce(mail.part.conversation.customer_id, address=finished.to[0], at=clock())
    except Rejected as reason:
        settle_answer_email(mail, status=Status.FAILED, detail=str(reason))
    except ChannelDown as reason:
        due_at = clock() + outcome.OUTAGE_RETRY_AFTER
        settle_answer_email(mail, status=Status.WAITING, detail=str(reason), due_at=due_at, attempts=mail.attempts - 1)
        log.warning("answers are not mailed: %s", reason)
        ChannelOutage.record_refusal(Channel.EMAIL, why=replace_unstorable(str(reason)), at=clock())
        return False
    except Unavailable as reason:
        if mail.attempts > len(outcome.BACK_OFF):
            settle_answer_email(mail, status=Status.FAILED, detail=str(reason))
        else:
            again_at = clock() + outcome.BACK_OFF[mail.attempts - 1]
            settle_answer_email(mail, status=Status.WAITING, detail=str(reason), due_at=again_at)
    except Exception as reason:
        # Whatever it was, the server may have got it.
        log.warning("mail of answer %s is uncertain", mail.part_id, exc_info=True)
        settle_answer_email(mail, status=Status.UNCERTAIN, detail=f"{type(reason).__name__}: {reason}")
    else:
        settle_answer_email(
            mail, status=Status.SENT, sent_at=clock(), detail="", provider_id=replace_unstorable(provider_id)
        )
    return True


def settle_answer_email(mail: AnswerMail, *, status: Status, detail: str | None = None, **facts: object) -> None:
    """Write down how it went, if it is still this claim's."""
    mine = AnswerMail.objects.filter(pk=mail.pk, status=Status.SENDING, taken_at=mail.taken_at)
    mine.update(status=status, **facts, **({} if detail is None else {"detail": replace_unstorable(detail)}))


def expire_leases(*, at: datetime) -> int:
    """Call uncertain what a worker took in hand and never settled; returns how many."""
    abandoned = AnswerMail.objects.taken_before(at - LEASE)
    return abandoned.update(status=Status.UNCERTAIN, detail="A worker ended while it handed this mail over.")


# What the mail says


def envelope(part: ConversationPart) -> Envelope:
    """The answer as a mail from who gave it, with what it answers below."""
    conversation, workspace = part.conversation, Workspace.current()
    author, (name, address, reply_to) = name_of(part.teammate, workspace), sender_of(part, workspace)
    about = {
        "part": part,
        "body": rendering.absolute_image_urls(part.body),
        "author": author,
        "workspace": workspace,
        "question": question(part),
    }
    root, began_with = thread_id(conversation), conversation.record
    if began_with is not None and began_with.message.channel == Channel.EMAIL:
        root = rendering.message_id(began_with.pk)
    return Envelope(
        to=(conversation.customer.email or "",),
        subject=subject_of(conversation, workspace),
        html=render_to_string("delivery/answer.html", about),
        text=render_to_string("delivery/answer.txt", {**about, "text": html_to_text(part.body)}),
        sender=formataddr((name, address)),
        reply_to=reply_address(conversation) or reply_to,
        return_path=return_path(ReferentKind.ANSWER, part.pk),
        message_id=message_id(part),
        headers={"In-Reply-To": root, "References": root},
    )


def sender_of(part: ConversationPart, workspace: Workspace) -> tuple[str, str, str]:
    """Name, address and reply address it is from: the teammate's own, else the message's, else one all may use."""
    record = part.conversation.record
    own = Sender.objects.filter(teammate=part.teammate).order_by("pk").first() if part.teammate else None
    if own is not None:
        return own.name, own.email, own.reply_to or own.email
    found = record.message.sender if record is not None else None
    found = found or Sender.objects.filter(users=None).order_by("pk").first()
    name = name_of(part.teammate, workspace)
    if found is None:
        return name, settings.DEFAULT_FROM_EMAIL, settings.DEFAULT_FROM_EMAIL
    return name, found.email, found.reply_to or found.email


def name_of(teammate: User | None, workspace: Workspace) -> str:
    """What the customer knows the teammate by."""
    return (teammate.get_full_name() if teammate else "") or workspace.name


def subject_of(conversation: Conversation, workspace: Workspace) -> str:
    """The same for all answers in a conversation, so that mail programs keep them together."""
    record = conversation.record
    if record is not None and (written := subject_as_read(record)):
        return f"Re: {written}"
    return f"Your conversation with {workspace.name}"


def subject_as_read(record: DeliveryRecord) -> str:
    """The subject of a message as it read to the customer; empty where it has none."""
    try:
        rendered = rendering.render_sent_copy(record)
    except ContentError:
        return ""
    return " ".join(rendered.subject.split()) if rendered else ""


def question(part: ConversationPart) -> str:
    """What the customer wrote last before this answer, in plain text, as far as it fits; empty where they did not."""
    conversation = part.conversation
    asked = conversation.parts.filter(part_type=PartType.COMMENT, by_customer=True, created_at__lte=part.created_at)
    newest = asked.order_by("-created_at", "-pk").values_list("body", flat=True).first()
    words = html_to_text(newest if newest is not None else conversation.body).strip()
    return words if len(words) <= LONGEST_QUOTE else f"{words[:LONGEST_QUOTE].rstrip()}…"


def message_id(part: ConversationPart) -> str:
    """The Message-ID of an answer's mail: the same at every try, and not to be guessed."""
    return signed_id("answer", part.pk)


def thread_id(conversation: Conversation) -> str:
    """What all mails of a conversation refer to, so that mail programs keep them together."""
    return signed_id("conversation", conversation.pk)


def signed_id(kind: str, pk: int) -> str:
    """A Message-ID of ours for something that is no record."""
    signature = Signer(salt="message-id").signature(f"{kind}.{pk}")[:16]
    return f"<{kind}.{pk}.{signature.replace('_', '-')}@{settings.MESSAGE_ID_DOMAIN}>"
