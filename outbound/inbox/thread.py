"""One conversation as staff read it: what it began with, what was said since, and until when it may be put off."""

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
from messaging.content import ContentError, paragraphs, sanitise
from messaging.models import Channel
from outbound.console.lookups import name_of

# How much of a long conversation is shown before somebody asks for the rest.
LATEST, MOST = 60, 2000
MORNING = time(9)
LATER = timedelta(hours=3)
LONGEST_SNOOZE = timedelta(days=3660)

DONE: dict[str, Callable[[str, ConversationPart], str]] = {
    PartType.ASSIGNMENT: lambda who, part: assigned(who, part),
    PartType.OPEN: lambda who, part: f"{who} opened it again" if part.teammate else "It woke up",
    PartType.CLOSE: lambda who, _part: f"{who} closed it",
    PartType.SNOOZED: lambda who, _part: f"{who} snoozed it",
}
MAILED: dict[str, Callable[[AnswerMail], str]] = {
    Status.WAITING: lambda mail: f"Not emailed yet: {mail.detail}" if mail.detail else "",
    Status.SENDING: lambda _mail: "",
    Status.SENT: lambda mail: f"Emailed {moment(mail.sent_at)}" if mail.sent_at else "Emailed",
    Status.FAILED: lambda mail: f"Could not be emailed: {mail.detail}",
    Status.UNCERTAIN: lambda mail: f"Perhaps emailed: {mail.detail}",
    Status.SKIPPED: lambda mail: f"Not emailed: {mail.detail}",
    Status.WITHDRAWN: lambda _mail: "",
}


def assigned(who: str, part: ConversationPart) -> str:
    """Who handed it to whom."""
    if part.assigned_to is None:
        return f"{who} assigned it to nobody"
    return (
        f"{who} took it" if part.assigned_to == part.teammate else f"{who} assigned it to {name_of(part.assigned_to)}"
    )


def thread_context(conversation: Conversation, *, whole: bool) -> dict[str, Any]:
    """All a template needs of one conversation; as many queries however long it is."""
    rows = conversation.parts.select_related("teammate", "assigned_to", "mail").order_by("-created_at", "-pk")
    parts = list(rows[: (MOST if whole else LATEST) + 1])
    is_all = len(parts) <= (MOST if whole else LATEST)
    parts = parts[: MOST if whole else LATEST][::-1]
    return {
        "conversation": conversation,
        "opening": opening(conversation) if is_all else None,
        "earlier": 0 if is_all else conversation.parts.count() - len(parts),
        "parts": [as_part(part, conversation) for part in parts],
        "upto": parts[-1].pk if parts else 0,
        "was_read": conversation.read and bool(parts) and said_last(parts),
        "assignee": name_of(conversation.assignee) if conversation.assignee else "",
    }


def said_last(parts: Iterable[ConversationPart]) -> bool:
    """Whether what was said last is a teammate's, which a customer may have read."""
    said = [part for part in parts if part.part_type == PartType.COMMENT]
    return bool(said) and not said[-1].by_customer


def opening(conversation: Conversation) -> dict[str, Any]:
    """What it began with: our message as it read to the customer, or what the customer wrote."""
    record = conversation.record
    if record is None:
        return {
            "kind": "theirs",
            "who": str(conversation.customer),
            "at": conversation.created_at,
            "body": html(conversation.body),
            "files": files(conversation.attachments),
        }
    subject, body = as_read(record)
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


def as_read(record: DeliveryRecord) -> tuple[str, SafeString]:
    """A message's subject and text as they read to the customer, to be shown inside a page."""
    try:
        rendered = rendering.render_sent_copy(record)
    except ContentError:
        rendered = None
    if rendered is None:
        return "", html("")
    # A whole mail has a page of its own; here its words do.
    body = rendered.html if record.message.channel == Channel.IN_APP else paragraphs(rendered.text)
    return rendered.subject, html(body)


def as_part(part: ConversationPart, conversation: Conversation) -> dict[str, Any]:
    """One thing that was said or done."""
    who = author_of(part, conversation)
    did = DONE.get(part.part_type)
    kind = "done" if did else "note" if part.part_type == PartType.NOTE else "theirs" if part.by_customer else "ours"
    mail = getattr(part, "mail", None)
    return {
        "pk": part.pk,
        "kind": kind,
        "who": who,
        "did": did(who, part) if did else "",
        "at": part.created_at,
        "body": html(part.body),
        "files": files(part.attachments),
        "mailed": MAILED[mail.status](mail) if mail else "",
    }


def author_of(part: ConversationPart, conversation: Conversation) -> str:
    """Who said or did it, as staff call them; what no teammate noted, this program did."""
    if part.by_customer:
        return str(conversation.customer)
    if part.teammate is not None:
        return name_of(part.teammate)
    return "Outbound" if part.part_type == PartType.NOTE else "A teammate"


def html(body: str) -> SafeString:
    """A body for the page: made safe when it was written, and once more."""
    try:
        return mark_safe(sanitise(body))  # noqa: S308
    except ContentError:
        return mark_safe("<p>This is too long to show.</p>")


def files(attachments: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What came with it. Only pictures this server keeps are shown; whatever lies elsewhere is a link."""
    return [as_file(file, str(file.get("url") or "")) for file in attachments]


def as_file(file: dict[str, Any], url: str) -> dict[str, Any]:
    """One file; an address that is none of the web leads nowhere."""
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


def moment(when: datetime) -> str:
    """A moment on the workspace's clock."""
    return f"{timezone.localtime(when):%-d %b %Y, %H:%M}"


# Until when it may be put away.


def later_today(here: datetime) -> datetime | None:
    """In about three hours, where that is still today."""
    later = (here + LATER).replace(minute=0, second=0, microsecond=0)
    return later if later.date() == here.date() else None


def tomorrow(here: datetime) -> datetime:
    """Tomorrow morning."""
    return morning(here.date() + timedelta(days=1), here)


def next_week(here: datetime) -> datetime:
    """Monday morning."""
    return morning(here.date() + timedelta(days=7 - here.weekday()), here)


def morning(day: date, here: datetime) -> datetime:
    """When work begins on a day."""
    return datetime.combine(day, MORNING, tzinfo=here.tzinfo)


UNTIL: dict[str, tuple[str, Callable[[datetime], datetime | None]]] = {
    "later": ("Later today", later_today),
    "tomorrow": ("Tomorrow", tomorrow),
    "week": ("Next week", next_week),
}


def offers(*, at: datetime, zone: ZoneInfo) -> list[dict[str, Any]]:
    """What the page offers to snooze until."""
    here = at.astimezone(zone)
    found: dict[datetime, dict[str, Any]] = {}
    for name, (label, when) in UNTIL.items():
        moment = when(here)
        # On a Sunday, next week is tomorrow.
        if moment is not None and moment not in found:
            found[moment] = {"name": name, "label": label, "at": moment}
    return list(found.values())


def until(chosen: str, typed: str, *, at: datetime, zone: ZoneInfo) -> datetime:
    """The moment chosen or the morning of the day typed; ValidationError where that is none to come."""
    here = at.astimezone(zone)
    if chosen in UNTIL:
        moment = UNTIL[chosen][1](here)
        if moment is None:
            raise ValidationError("Today is nearly over. Choose tomorrow, or a date.")
        return moment
    try:
        moment = morning(date.fromisoformat(typed.strip()), here)
    except ValueError as wrong:
        raise ValidationError("Choose until when to snooze it.") from wrong
    if not at < moment <= at + LONGEST_SNOOZE:
        raise ValidationError("Choose a date to come to snooze it until.")
    return moment
