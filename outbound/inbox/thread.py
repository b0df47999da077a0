"""One conversation for staff: its parts, the state of its emails, and the times to snooze it until."""

from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from delivery import rendering
from delivery.models import AnswerMail, Conversation, ConversationPart, DeliveryRecord, PartType, Status
from messaging.content import ContentError, paragraphs_html, sanitise
from messaging.models import Channel
from outbound.console.lookups import teammate_name

# Parts shown at first, and on request.
LATEST_PARTS, MAX_PARTS = 60, 2000
MORNING_TIME = time(9)
LATER_TODAY_DELAY = timedelta(hours=3)
MAX_SNOOZE = timedelta(days=3660)

ACTION_TEXTS: dict[str, Callable[[str, ConversationPart], str]] = {
    PartType.ASSIGNMENT: lambda who, part: assignment_text(who, part),
    PartType.OPEN: lambda who, part: f"{who} reopened the conversation" if part.teammate else "Reopened automatically",
    PartType.CLOSE: lambda who, _part: f"{who} closed the conversation",
    PartType.SNOOZED: lambda who, _part: f"{who} snoozed the conversation",
}
EMAIL_STATUS_TEXTS: dict[str, Callable[[AnswerMail], str]] = {
    Status.WAITING: lambda mail: f"Not emailed yet: {mail.detail}" if mail.detail else "",
    Status.SENDING: lambda _mail: "",
    Status.SENT: lambda mail: f"Emailed {format_moment(mail.sent_at)}" if mail.sent_at else "Emailed",
    Status.FAILED: lambda mail: f"Could not be emailed: {mail.detail}",
    Status.UNCERTAIN: lambda mail: f"Possibly emailed: {mail.detail}",
    Status.SKIPPED: lambda mail: f"Not emailed: {mail.detail}",
    Status.WITHDRAWN: lambda _mail: "",
}


def assignment_text(who: str, part: ConversationPart) -> str:
    if part.assigned_to is None:
        return f"{who} removed the assignment"
    return (
        f"{who} assigned the conversation to themselves"
        if part.assigned_to == part.teammate
        else f"{who} assigned the conversation to {teammate_name(part.assigned_to)}"
    )


def thread_context(conversation: Conversation, *, whole: bool) -> dict[str, Any]:
    """Return the template context of a conversation: the latest parts, or all if `whole`. Queries are constant."""
    rows = conversation.parts.select_related("teammate", "assigned_to", "mail").order_by("-created_at", "-pk")
    parts = list(rows[: (MAX_PARTS if whole else LATEST_PARTS) + 1])
    is_all = len(parts) <= (MAX_PARTS if whole else LATEST_PARTS)
    parts = parts[: MAX_PARTS if whole else LATEST_PARTS][::-1]
    return {
        "conversation": conversation,
        "opening": opening_context(conversation) if is_all else None,
        "earlier": 0 if is_all else conversation.parts.count() - len(parts),
        "parts": [as_part(part, conversation) for part in parts],
        "upto": parts[-1].pk if parts else 0,
        "was_read": conversation.read and bool(parts) and is_last_comment_ours(parts),
        "assignee": teammate_name(conversation.assignee) if conversation.assignee else "",
    }


def is_last_comment_ours(parts: Iterable[ConversationPart]) -> bool:
    """Tell whether the latest comment is from a teammate, so that “Read” can apply to it."""
    comments = [part for part in parts if part.part_type == PartType.COMMENT]
    return bool(comments) and not comments[-1].by_customer


def opening_context(conversation: Conversation) -> dict[str, Any]:
    """Return the template context of the first message: ours as rendered, or the customer's."""
    record = conversation.record
    if record is None:
        return {
            "kind": "theirs",
            "who": str(conversation.customer),
            "at": conversation.created_at,
            "body": safe_html(conversation.body),
            "files": attachment_rows(conversation.attachments),
        }
    subject, body = render_for_staff(record)
    sender = record.message.sender
    return {
        "kind": "ours",
        "who": sender.name if sender else "We",
        "at": record.sent_at or conversation.created_at,
        "record": record,
        "subject": subject,
        "body": body,
        "files": [],
    }


def render_for_staff(record: DeliveryRecord) -> tuple[str, SafeString]:
    """Return the subject and text of a message as rendered for the customer."""
    try:
        rendered = rendering.render_sent_copy(record)
    except ContentError:
        rendered = None
    if rendered is None:
        return "", safe_html("")
    # The record page shows the whole email; here its text is enough.
    body = rendered.html if record.message.channel == Channel.IN_APP else paragraphs_html(rendered.text)
    return rendered.subject, safe_html(body)


def as_part(part: ConversationPart, conversation: Conversation) -> dict[str, Any]:
    who = author_of(part, conversation)
    did = ACTION_TEXTS.get(part.part_type)
    kind = "done" if did else "note" if part.part_type == PartType.NOTE else "theirs" if part.by_customer else "ours"
    mail = getattr(part, "mail", None)
    return {
        "pk": part.pk,
        "kind": kind,
        "who": who,
        "did": did(who, part) if did else "",
        "at": part.created_at,
        "body": safe_html(part.shown_body),
        "folded": safe_html(part.folded_body),
        "files": attachment_rows(part.attachments),
        "mailed": EMAIL_STATUS_TEXTS[mail.status](mail) if mail else "",
    }


def author_of(part: ConversationPart, conversation: Conversation) -> str:
    """Return the display name of the author. Notes without a teammate are by Outbound itself."""
    if part.by_customer:
        return str(conversation.customer)
    if part.teammate is not None:
        return teammate_name(part.teammate)
    return "Outbound" if part.part_type == PartType.NOTE else "A teammate"


def safe_html(body: str) -> SafeString:
    """Sanitise a body again before it goes into the page."""
    try:
        return mark_safe(sanitise(body))  # noqa: S308
    except ContentError:
        return mark_safe("<p>This text is too long to show.</p>")


def attachment_rows(attachments: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the attachments for display. Only images on this server are shown inline; others become links."""
    return [as_file(file, str(file.get("url") or "")) for file in attachments]


def as_file(file: dict[str, Any], url: str) -> dict[str, Any]:
    """Return the template context of an attachment. URLs other than http and https are dropped."""
    ours = f"{settings.PUBLIC_URL}/"
    is_picture = url.startswith(ours) and str(file.get("content_type") or "").startswith("image/")
    address = f"/{url.removeprefix(ours)}" if url.startswith(ours) else url
    return {
        "name": file.get("name") or "Attachment",
        "url": address if url.startswith(("https://", "http://")) else "",
        "is_picture": is_picture,
        "is_ours": url.startswith(ours),
        "size": file.get("filesize"),
    }


def format_moment(when: datetime) -> str:
    """Format a moment in the workspace's time zone."""
    return f"{timezone.localtime(when):%-d %b %Y, %H:%M}"


def later_today(here: datetime) -> datetime | None:
    """Return a full hour about three hours ahead; None if that is tomorrow."""
    later = (here + LATER_TODAY_DELAY).replace(minute=0, second=0, microsecond=0)
    return later if later.date() == here.date() else None


def tomorrow_morning(here: datetime) -> datetime:
    return morning_of(here.date() + timedelta(days=1), here)


def monday_morning(here: datetime) -> datetime:
    return morning_of(here.date() + timedelta(days=7 - here.weekday()), here)


def morning_of(day: date, here: datetime) -> datetime:
    return datetime.combine(day, MORNING_TIME, tzinfo=here.tzinfo)


SNOOZE_OPTIONS: dict[str, tuple[str, Callable[[datetime], datetime | None]]] = {
    "later": ("Later today", later_today),
    "tomorrow": ("Tomorrow", tomorrow_morning),
    "week": ("Next week", monday_morning),
}


def snooze_options(*, at: datetime, zone: ZoneInfo) -> list[dict[str, Any]]:
    here = at.astimezone(zone)
    found: dict[datetime, dict[str, Any]] = {}
    for name, (label, when) in SNOOZE_OPTIONS.items():
        moment = when(here)
        # On a Sunday, “Next week” and “Tomorrow” are the same moment.
        if moment is not None and moment not in found:
            found[moment] = {"name": name, "label": label, "at": moment}
    return list(found.values())


def snooze_until(chosen: str, typed: str, *, at: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment of a snooze option or of a typed date. Raises ValidationError if it is not in the future."""
    here = at.astimezone(zone)
    if chosen in SNOOZE_OPTIONS:
        moment = SNOOZE_OPTIONS[chosen][1](here)
        if moment is None:
            raise ValidationError("It is too late for “Later today”. Choose another time.")
        return moment
    try:
        moment = morning_of(date.fromisoformat(typed.strip()), here)
    except ValueError as wrong:
        raise ValidationError("Choose how long to snooze the conversation.") from wrong
    if not at < moment <= at + MAX_SNOOZE:
        raise ValidationError("Choose a date in the future, within 10 years.")
    return moment
