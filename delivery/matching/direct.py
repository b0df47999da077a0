"""Direct messages: one message with one copy to one customer, sent at once (behaviour 4.12)."""

from datetime import datetime

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction

from audiences.models import Company, Customer
from delivery import rendering
from delivery.eligibility import conditions
from delivery.matching import direct, launch
from delivery.models import DeliveryRecord, Reason, Status
from messaging import authoring, content
from messaging.content.plain_text import html_to_text
from messaging.models import Channel, Message, Sender, SendType

TITLE_MAX_LENGTH = 80
UNREACHABLE_ERRORS: dict[Reason, str] = {
    Reason.NO_EMAIL: "{customer} has no email address.",
    Reason.BOUNCED: "An email to {customer} bounced. Clear that on their profile once the address is right.",
    Reason.COMPLAINED: "{customer} marked an email as spam. Clear that on their profile if they want to hear from you.",
    Reason.NO_DEVICE: "{customer} has no device that takes mobile push.",
    Reason.ARCHIVED: "{customer} is archived.",
}


def unreachable_reason(customer: Customer, *, channel: str) -> Reason | None:
    """Return why a direct message cannot reach this customer by this channel; None if it can.

    Unsubscribed customers can be reached: the console warns first, and the API refuses.
    """
    return next(iter(conditions.unreachable_reasons(Message(channel=channel, to_customer=customer), customer)), None)


def send_to_one(
    customer: Customer,
    *,
    channel: str,
    format: str,  # noqa: A002 - the model's own word
    sender: Sender | None,
    subject: str,
    body: str,
    by: User | None,
    at: datetime,
    company: Company | None = None,
    reserved: int | None = None,
    link: str = "",
) -> DeliveryRecord:
    """Send a message to one customer. Raises ValidationError by field, and stores nothing, if that is not possible.

    `reserved` is a primary key reserved for this message, so that a repeated request finds the first one. The caller
    nudges.
    """
    if reason := unreachable_reason(customer, channel=channel):
        raise ValidationError({"channel": UNREACHABLE_ERRORS[reason].format(customer=customer)})
    if lacking := missing_fields(channel=channel, sender=sender, subject=subject, body=body):
        raise ValidationError(lacking)
    company = company_of_text(customer, company=company, texts=(subject, body, link))
    with transaction.atomic():
        message = Message(
            pk=reserved,
            title=title_of(subject, body, customer=customer, company=company),
            channel=channel,
            format=format,
            send_type=SendType.ONE_OFF,
            sender=sender,
            to_customer=customer,
            to_company=company,
            created_by=by,
        )
        message.full_clean(exclude=["version"])
        message.save(force_insert=True)
        authoring.revise(message, subject=subject, body=body, link=link, by=by, at=at)
        launch.launch(message, at=at)
        return direct.insert_direct_record(customer, message, at=at, company=company)


def missing_fields(*, channel: str, sender: Sender | None, subject: str, body: str) -> dict[str, str]:
    """Return the errors for missing parts, by field."""
    needed = {
        "sender": (sender is not None, authoring.NO_SENDER),
        "subject": (channel != Channel.EMAIL or subject.strip(), "An email needs a subject."),
        "body": (html_to_text(body).strip() or "<img" in body, "The message has no text yet."),
    }
    return {field: sentence for field, (there, sentence) in needed.items() if not there}


def company_of_text(customer: Customer, *, company: Company | None, texts: tuple[str, ...]) -> Company | None:
    """Return the company the text is about, None if it uses none; ValidationError if one must be chosen."""
    try:
        if not content.uses_company(*texts):
            return None
    except content.ContentError:
        return None  # `revise` reports the error and its line.
    if company is None:
        raise ValidationError({"company": "The text uses a company variable: choose which company it is about."})
    if not customer.memberships.filter(company=company).exists():
        raise ValidationError({"company": f"{customer} is not in {company}."})
    if company.archived_at is not None:
        raise ValidationError({"company": f"{company} is archived, so nothing can be sent about it."})
    return company


def title_of(subject: str, body: str, *, customer: Customer, company: Company | None) -> str:
    """Return the title for lists of messages: the subject, or the first words, as the customer reads them."""
    words = " ".join((subject or html_to_text(body)).split())
    words = content.fill_in(words, rendering.facts_of(customer, company))
    if len(words) > TITLE_MAX_LENGTH:
        return f"{words[: TITLE_MAX_LENGTH - 1].rstrip()}…"
    return words or "Message"


def insert_direct_record(
    customer: Customer, message: Message, *, at: datetime, company: Company | None = None
) -> DeliveryRecord:
    """Insert the one record of a direct message, due at once (behaviour 4.12)."""
    in_app = message.channel == Channel.IN_APP
    return DeliveryRecord.objects.create(
        message=message,
        customer=customer,
        company=company,
        status=Status.WAITING,
        reason=Reason.VISIT if in_app else Reason.QUEUED,
        due_at=None if in_app else at,
        matched_at=at,
        judged_last_seen_at=customer.last_seen_at,
    )
