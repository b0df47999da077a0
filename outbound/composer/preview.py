"""Preview for one customer, rendered by the code that sends; and a test email to its author (behaviour 4.13).

Neither writes to the database: no record, no count, no customer.
"""

import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q
from django.template.loader import render_to_string
from django.utils.html import escape

from audiences.models import Company, Customer
from delivery import rendering
from delivery.api.messenger import payloads
from delivery.channels import CHANNELS, Rejected, Unavailable
from delivery.channels.in_app import Shown
from delivery.channels.push import push_texts
from delivery.models import Conversation, DeliveryRecord
from messaging import content
from messaging.content.sanitize import TAG
from messaging.models import Channel, Message, Sender

SEARCH_LIMIT = 8
MARK = "<mark>"
# The messenger shows no <mark>.
MARK_IN_MESSENGER = '<span style="background-color:#fde68a;color:#713f12">'


class Missing(str):
    """An unknown value: empty like in Liquid, so that a default applies, and marked if it is shown without one."""

    name: str

    def __new__(cls, name: str) -> "Missing":
        empty = super().__new__(cls, "")
        empty.name = name
        return empty

    def __html__(self) -> str:
        return f"<mark>{escape(self.name)}</mark>"


@dataclass(slots=True)
class Preview:
    """A copy as one customer would get it, or the error that prevents it."""

    subject: str = ""
    page: str = ""
    # The text of an in-app message without the messenger; otherwise the page.
    html: str = ""
    missing: list[str] = field(default_factory=list)
    wrong: str = ""
    customer: Customer | None = None
    company: Company | None = None
    companies: list[Company] = field(default_factory=list)


def preview(message: Message, *, customer: Customer | None, company: int | None, at: datetime) -> Preview:
    """Render the message for a customer and one of their companies, with unknown values marked."""
    found = Preview(customer=customer)
    if customer is not None:
        found.companies = list(
            Company.objects.filter(memberships__customer=customer, archived_at=None).order_by("name")[:50]
        )
        found.company = next((one for one in found.companies if one.pk == company), None) or next(
            iter(found.companies), None
        )
    try:
        names, rendered = render_copy(message, customer=customer, company=found.company, mark=True)
    except content.ContentError as wrong:
        found.wrong = str(wrong)
        return found
    facts = known_variables(names, customer=customer, company=found.company)
    version = message.version
    bare = frozenset().union(*map(content.variables_without_default, (version.subject, version.body, version.link)))  # type: ignore[union-attr]
    found.missing = sorted((names & bare) - facts.keys())
    found.subject = rendered.subject
    found.page = frame_page(message, rendered, at=at)
    found.html = rendered.html if message.channel == Channel.IN_APP else found.page
    return found


def render_copy(
    message: Message, *, customer: Customer | None, company: Company | None, mark: bool
) -> tuple[frozenset[str], content.Rendered]:
    """Return the used variables and the rendered copy; raise ContentError if the content is invalid."""
    assert message.version is not None  # noqa: S101 - a previewed message has one
    copy = rendering.compile_copy(message.version, channel=message.channel, layout=message.layout)
    known = known_variables(copy.names, customer=customer, company=company)
    unknown = {name: Missing(name) for name in copy.names - known.keys()} if mark else {}
    values = {**known, **unknown, content.UNSUBSCRIBE_URL: f"{settings.PUBLIC_URL}/"}
    rendered = copy.compiled.render(values)
    return copy.names, replace(rendered, html=unmarked_inside_tags(rendered.html)) if mark else rendered


def known_variables(names: frozenset[str], *, customer: Customer | None, company: Company | None) -> dict[str, object]:
    """Return the variables that have a value; an empty value counts as unknown."""
    filled = rendering.variable_values(names, customer=customer, company=company) if customer else {}
    return {name: value for name, value in filled.items() if value != ""}


def unmarked_inside_tags(html: str) -> str:
    """Remove marks inside HTML tags, where they would break a URL."""

    def unmarked(tag: Any) -> str:
        text: str = tag[0]
        if "<mark>" not in text or text == MARK:
            return text
        start, end = text.find("<mark>"), text.rfind("</mark>")
        return text[:start] + text[end + len("</mark>") :]

    return TAG.sub(unmarked, html) if MARK in html else html


def frame_page(message: Message, rendered: content.Rendered, *, at: datetime) -> str:
    """Return the page for the preview's frame: an email as it is, a push drawn, others in the messenger itself."""
    if message.channel == Channel.EMAIL:
        return rendered.html.replace("</head>", "<style>mark{background:#fde68a;color:#713f12}</style></head>", 1)
    if message.channel == Channel.PUSH:
        title, text = push_texts(rendered.subject, rendered.text)
        return render_to_string("outbound/composer/push.html", {"title": title, "text": text, "link": rendered.link})
    answers = messenger_answers(message, rendered, at=at)
    return render_to_string("outbound/composer/messenger.html", {"answers": answers})


def messenger_answers(message: Message, rendered: content.Rendered, *, at: datetime) -> dict[str, object]:
    """Return the answers to the messenger's requests by path, as a customer with only this message would get them."""
    body = rendered.html.replace(MARK, MARK_IN_MESSENGER).replace("</mark>", "</span>")
    # The records of a preview have no rows.
    record = DeliveryRecord(pk=1, message=message)
    conversation = Conversation(pk=1, record=record, created_at=at, updated_at=at)
    part = payloads.message_part(message, rendered.subject, body, at=at)
    fields = {**payloads.common_fields(conversation), "subject": part["subject"], "from": part["from"]}
    entry = {
        **fields,
        "answered": False,
        "by_customer": False,
        "preview": payloads.preview(body),
        "last_at": part["created_at"],
    }
    shown = Shown(
        record=1,
        message=0,
        format=message.format,
        subject=rendered.subject,
        body=body,
        sender=part["from"]["name"],
        sent_at=at,
    )
    return {
        "ping": {"user": {"type": "user", "id": "1"}, "token": "", "messages": [shown.as_json()], "errors": []},
        "conversations": {"conversations": [entry], "older": 0, "unread_count": 1, "expected": False},
        "conversations/1": {**fields, "parts": [part], "asks_email": False},
    }


def find_customers(words: str) -> list[Customer]:
    """Return customers to preview as, found by name, email or user ID."""
    words = words.strip()
    rows = Customer.objects.filter(archived_at=None)
    if words:
        rows = rows.filter(Q(email__istartswith=words) | Q(name__icontains=words) | Q(user_id=words))
    return list(rows.order_by("-pk")[:SEARCH_LIMIT])


def send_test(
    message: Message, *, sender: Sender, to: User, customer: Customer | None, company: Company | None
) -> None:
    """Send the copy to its author through the email channel; raise Rejected or Unavailable if that fails."""
    _, rendered = render_copy(message, customer=customer, company=company, mark=False)
    # As a direct message, because a test has no customer to unsubscribe.
    alone = Message(channel=message.channel, to_customer_id=0)
    envelope = rendering.envelope(alone, sender, rendered, record_id=0, to=(to.email,))
    marked = replace(
        envelope,
        subject=f"[Test] {envelope.subject}",
        message_id=f"<test-{uuid.uuid4()}@{settings.MESSAGE_ID_DOMAIN}>",
        headers={},
    )
    channel = CHANNELS[Channel.EMAIL]()
    try:
        channel.send(marked)
    finally:
        channel.close()


__all__ = ["Preview", "Rejected", "Unavailable", "find_customers", "preview", "send_test"]
