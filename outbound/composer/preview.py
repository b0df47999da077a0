"""How it will read to somebody, made by the code that sends it; and a test to whoever writes it (behaviour 4.13).

Neither writes anything down: no record, no count, no customer.
"""

import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q
from django.template.loader import render_to_string
from django.utils.html import escape

from audiences.models import Company, Customer
from delivery import rendering
from delivery.channels import CHANNELS, Rejected, Unavailable
from messaging import content
from messaging.content.sanitize import TAG
from messaging.models import Channel, Message, Sender

MOST_FOUND = 8
MARK = "<mark>"


class Missing(str):
    """An unknown value: empty, as Liquid has it, so that a default applies; marked where it shows for want of one."""

    name: str

    def __new__(cls, name: str) -> "Missing":
        """Keep the name of what is unknown."""
        empty = super().__new__(cls, "")
        empty.name = name
        return empty

    def __html__(self) -> str:
        return f"<mark>{escape(self.name)}</mark>"


@dataclass(slots=True)
class Preview:
    """A copy as one customer would get it, or why there is none."""

    subject: str = ""
    page: str = ""
    missing: list[str] = field(default_factory=list)
    wrong: str = ""
    customer: Customer | None = None
    company: Company | None = None
    companies: list[Company] = field(default_factory=list)


def preview(message: Message, *, customer: Customer | None, company: int | None) -> Preview:
    """Fill the message in for a customer and one of their companies, with what is unknown marked."""
    found = Preview(customer=customer)
    if customer is not None:
        found.companies = list(
            Company.objects.filter(memberships__customer=customer, archived_at=None).order_by("name")[:50]
        )
        found.company = next((one for one in found.companies if one.pk == company), None) or next(
            iter(found.companies), None
        )
    try:
        names, rendered = filled_in(message, customer=customer, company=found.company, mark=True)
    except content.ContentError as wrong:
        found.wrong = str(wrong)
        return found
    facts = facts_of(names, customer=customer, company=found.company)
    version = message.version
    bare = frozenset().union(*map(content.without_default, (version.subject, version.body, version.link)))  # type: ignore[union-attr]
    found.missing = sorted((names & bare) - facts.keys())
    found.subject = rendered.subject
    found.page = page_of(message, rendered)
    return found


def filled_in(
    message: Message, *, customer: Customer | None, company: Company | None, mark: bool
) -> tuple[frozenset[str], content.Rendered]:
    """The copy, by the code that sends, and the variables it uses; ContentError where it cannot be read."""
    assert message.version is not None  # noqa: S101 - a previewed message has one
    copy = rendering.compile_copy(message.version, channel=message.channel, dress=message.dress)
    known = facts_of(copy.names, customer=customer, company=company)
    unknown = {name: Missing(name) for name in copy.names - known.keys()} if mark else {}
    values = {**known, **unknown, content.UNSUBSCRIBE_URL: f"{settings.PUBLIC_URL}/"}
    rendered = copy.compiled.render(values)
    return copy.names, replace(rendered, html=unmarked_inside_tags(rendered.html)) if mark else rendered


def facts_of(names: frozenset[str], *, customer: Customer | None, company: Company | None) -> dict[str, object]:
    """What is known of them; what is empty is not."""
    filled = rendering.variable_values(names, customer=customer, company=company) if customer else {}
    return {name: value for name, value in filled.items() if value != ""}


def unmarked_inside_tags(html: str) -> str:
    """HTML in which no mark stands inside a tag, where it would break an address."""

    def unmarked(tag: Any) -> str:
        text: str = tag[0]
        if "<mark>" not in text or text == MARK:
            return text
        start, end = text.find("<mark>"), text.rfind("</mark>")
        return text[:start] + text[end + len("</mark>") :]

    return TAG.sub(unmarked, html) if MARK in html else html


def page_of(message: Message, rendered: content.Rendered) -> str:
    """The page inside the preview's frame: a mail is one already; the others are shown as they look in their place."""
    if message.channel == Channel.EMAIL:
        return rendered.html.replace("</head>", "<style>mark{background:#fde68a;color:#713f12}</style></head>", 1)
    return render_to_string(
        "outbound/composer_frame.html", {"message": message, "rendered": rendered, "name": message.sender}
    )


def people(words: str) -> list[Customer]:
    """Customers to preview as, by name, email or user ID."""
    words = words.strip()
    rows = Customer.objects.filter(archived_at=None)
    if words:
        rows = rows.filter(Q(email__istartswith=words) | Q(name__icontains=words) | Q(user_id=words))
    return list(rows.order_by("-pk")[:MOST_FOUND])


def send_test(
    message: Message, *, sender: Sender, to: User, customer: Customer | None, company: Company | None
) -> None:
    """Mail the copy to whoever writes it, on the way every mail goes; Rejected or Unavailable where it did not go."""
    _, rendered = filled_in(message, customer=customer, company=company, mark=False)
    # As to one person: a link to unsubscribe would be of nobody.
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


__all__ = ["Preview", "Rejected", "Unavailable", "people", "preview", "send_test"]
