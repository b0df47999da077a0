"""The home page: live messages, daily sends, problems and new replies; for a new workspace, the first steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from audiences.models import Customer, Workspace
from delivery import schedule
from delivery.models import Conversation, DeliveryRecord, Status
from delivery.reporting import counters
from messaging.models import RUNNING, Channel, Message, Sender, State
from outbound.console import charts
from outbound.console.charts import Chart, Series
from outbound.console.formatting import moment
from outbound.console.wording import counted, percent

LIVE_SHOWN, REPLIES_SHOWN, STUCK_SHOWN = 8, 6, 12
DAYS = 30
RECENT = timedelta(days=7)
OUTBOUND = "admin:messaging_message_changelist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem that needs a person: title, reason and link."""

    what: str
    why: str
    link: str = ""
    tone: str = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A first step that a new workspace has not taken."""

    words: str
    link: str
    button: str


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the home page for this teammate."""
    at = timezone.now()
    may_read = request.user.has_perm("messaging.view_message")
    may_see_replies = request.user.has_perm("delivery.view_conversation")
    return {
        **context,
        "may_read": may_read,
        "may_see_replies": may_see_replies,
        "live": list(live_rows()) if may_read else [],
        "live_in_all": Message.objects.live().to_audiences().count() if may_read else 0,
        "chart": sent_per_day(at=at) if may_read else None,
        "stuck": list(problems(at=at))[:STUCK_SHOWN] if may_read else [],
        "replies": list(newest_replies()) if may_see_replies else [],
        "steps": list(first_steps(request)),
    }


def live_rows() -> Iterator[dict[str, Any]]:
    """Yield the live messages, newest first, with their counts."""
    messages = list(Message.objects.live().to_audiences().order_by("-went_live_at")[:LIVE_SHOWN])
    numbers = counters.counts_of([message.pk for message in messages])
    for message in messages:
        found = numbers[message.pk]
        yield {"message": message, "counts": found, "opened": percent(found.opened, found.sent)}


def sent_per_day(*, at: datetime) -> Chart | None:
    """Return a chart of the copies sent per day and channel, or None if none were sent."""
    zone = Workspace.current().tz
    today = at.astimezone(zone).date()
    days = charts.days(today, many=DAYS)
    since = datetime.combine(days[0], datetime.min.time(), tzinfo=zone)
    found = counters.sent_by_channel(since=since, zone=zone.key)
    channels = [channel for channel in Channel if any(channel in numbers for numbers in found.values())]
    if not channels:
        return None
    return Chart(
        title=f"Sent on each of the last {DAYS} days",
        labels=[f"{day:%-d %b}" for day in days],
        series=[
            Series(
                name=channel.value, label=channel.label, numbers=[found.get(day, {}).get(channel, 0) for day in days]
            )
            for channel in channels
        ],
        kind="bar",
        stacked=True,
    )


def problems(*, at: datetime) -> Iterator[Problem]:
    """Yield all problems, the most urgent first."""
    yield from silent_schedule(at=at)
    yield from messages_in_trouble(at=at)
    yield from self_paused_messages()
    yield from overdue_messages(at=at)
    yield from uncertain_messages()
    yield from recently_failed(at=at)


def silent_schedule(*, at: datetime) -> Iterator[Problem]:
    """Yield tasks of the schedule that are disabled or late."""
    for task in PeriodicTask.objects.filter(name__in=schedule.TASKS).select_related("interval").order_by("name"):
        link = reverse("admin:django_celery_beat_periodictask_change", args=[task.pk])
        if not task.enabled:
            yield Problem(what=task.name, why="This task is disabled in the schedule.", link=link, tone="warning")
            continue
        every = task.interval.schedule.run_every if task.interval else timedelta()
        last = task.last_run_at
        if last is None and at - task.date_changed > every + settings.BEAT_LATE:
            yield Problem(what=task.name, why="It has never run. Is the scheduler (celery beat) running?", link=link)
        elif last is not None and at - last > every + settings.BEAT_LATE:
            yield Problem(
                what=task.name, why=f"It last ran {moment(last)}. Is the scheduler (celery beat) running?", link=link
            )


def messages_in_trouble(*, at: datetime) -> Iterator[Problem]:
    """Yield messages that cannot match or go live, and scheduled messages that are late."""
    overdue = Q(state=State.SCHEDULED, scheduled_for__lt=at - settings.DUE_LATE)
    rows = Message.objects.exclude(state__in=(State.STOPPED, State.SENT)).filter(~Q(problem="") | overdue)
    for message in rows.order_by("-pk")[:STUCK_SHOWN]:
        late = (
            f"It was scheduled to go live {moment(message.scheduled_for)} but has not." if message.scheduled_for else ""
        )
        yield Problem(what=message.title, why=message.problem or late, link=message_url(message.pk))


def self_paused_messages() -> Iterator[Problem]:
    """Yield messages that have paused themselves and wait for a decision."""
    for message in Message.objects.exclude(paused_because="").order_by("-pk")[:STUCK_SHOWN]:
        yield Problem(
            what=message.title, why=f"It has paused itself. {message.paused_because}", link=message_url(message.pk)
        )


def overdue_messages(*, at: datetime) -> Iterator[Problem]:
    """Yield messages with due copies that have not been sent, the oldest first."""
    running = dict(Message.objects.live().exclude(channel=Channel.IN_APP).values_list("pk", "title"))
    due = sorted((when, pk) for pk, when in counters.next_due(list(running)).items() if when < at - settings.DUE_LATE)
    for when, pk in due[:STUCK_SHOWN]:
        yield Problem(
            what=running[pk],
            why=f"Due since {moment(when)} but not sent. Is a worker running?",
            link=message_url(pk),
        )


def uncertain_messages() -> Iterator[Problem]:
    """Yield messages with uncertain copies."""
    page = reverse("admin:deliveryrecord_uncertain")
    rows = (
        DeliveryRecord.objects.filter(status=Status.UNCERTAIN)
        .order_by()
        .values_list("message", "message__title")
        .annotate(many=Count("pk"))
    )
    for pk, title, many in rows.order_by("-many")[:STUCK_SHOWN]:
        why = f"{counted(many, 'copy is', 'copies are')} uncertain and may or may not have been sent."
        yield Problem(what=title, why=why, link=f"{page}?message={pk}", tone="warning")


def recently_failed(*, at: datetime) -> Iterator[Problem]:
    """Yield recent messages with failed copies."""
    recent = Message.objects.filter(Q(state__in=RUNNING) | Q(went_live_at__gte=at - RECENT))
    titles = dict(
        recent.filter(count__failed__gt=0).order_by("-count__failed").values_list("pk", "title")[:STUCK_SHOWN]
    )
    for pk, found in counters.counts_of(list(titles)).items():
        why = f"{counted(found.failed, 'copy', 'copies')} failed."
        yield Problem(what=titles[pk], why=why, link=f"{message_url(pk)}?status=failed#people", tone="warning")


def message_url(message: int) -> str:
    return reverse("admin:messaging_message_change", args=[message])


def newest_replies() -> Iterator[dict[str, Any]]:
    """Yield the conversations with the newest customer replies."""
    replied = Conversation.objects.filter(first_reply_at__isnull=False)
    for thread in replied.select_related("customer", "record__message").order_by("-first_reply_at")[:REPLIES_SHOWN]:
        yield {
            "customer": thread.customer,
            "to": thread.record.message.title if thread.record else "New conversation",
            "when": thread.first_reply_at,
            "link": reverse("admin:delivery_conversation_change", args=[thread.pk]),
        }


def first_steps(request: HttpRequest) -> Iterator[Step]:
    """Yield the steps that a new workspace lacks and this teammate may take."""
    may = request.user.has_perm
    if may("audiences.view_customer") and not Customer.objects.exists():
        yield Step(
            words="Add your customers: import a file or send them through the API.",
            link=reverse("admin:audiences_customer_changelist"),
            button="People",
        )
    if may("messaging.add_sender") and not Sender.objects.exists():
        yield Step(
            words="Add the sender of your messages.", link=reverse("admin:messaging_sender_add"), button="Add a sender"
        )
    if may("messaging.add_message") and not Message.objects.exists():
        yield Step(
            words="Write your first message.",
            link=reverse("admin:messaging_message_add"),
            button="New message",
        )
