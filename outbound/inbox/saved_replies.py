"""Saved replies for one conversation: found by words, and filled in for its customer."""

from typing import Any

from django.db.models import Q

from audiences.models import Company, Customer
from delivery import rendering
from messaging import content
from messaging.models import Channel, MessageVersion, SavedReply

REPLIES_FOUND_MAX = 20


def find_replies(words: str, *, customer: Customer) -> list[dict[str, Any]]:
    """Return the saved replies that contain all words in their name or text, filled in for the customer."""
    rows = SavedReply.objects.order_by("name")
    for word in words.split():
        rows = rows.filter(Q(name__icontains=word) | Q(body__icontains=word))
    company = Company.objects.filter(memberships__customer=customer, archived_at=None).order_by("name", "pk").first()
    return [fill_reply(reply, customer=customer, company=company) for reply in rows[:REPLIES_FOUND_MAX]]


def fill_reply(reply: SavedReply, *, customer: Customer, company: Company | None) -> dict[str, Any]:
    """Return a reply with its text as HTML, and the variables without a value, which stand in square brackets."""
    version = MessageVersion(body=content.paragraphs_html(reply.body))
    try:
        copy = rendering.compile_copy(version, channel=Channel.IN_APP, layout={})
        filled = rendering.variable_values(copy.names, customer=customer, company=company)
        known = {name: value for name, value in filled.items() if value != ""}
        missing = sorted((copy.names & content.variables_without_default(version.body)) - known.keys())
        rendered = copy.compiled.render({**known, **{name: f"[{name}]" for name in missing}})
    except content.ContentError as wrong:
        return {"name": reply.name, "wrong": f"This reply has an error: {wrong}"}
    return {"name": reply.name, "html": rendered.html, "text": rendered.text, "missing": missing}
