"""Home: what is live, what was sent, what is stuck, who replied; and for a new workspace, what to do next."""

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
LATELY = timedelta(days=7)
OUTBOUND = "admin:messaging_message_changelist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Something that does not go on by itself: what it is, why, and where to look."""

    what: str
    why: str
    link: str = ""
    tone: str = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something a new workspace still lacks."""

    words: str
    link: str
    button: str


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the home page shows this teammate."""
    at = timezone.now()
    may_read = request.user.has_perm("messaging.view_message")
    may_see_replies = request.user.has_perm("delivery.view_conversation")
    return {
        **context,
        "may_read": may_read,
        "may_see_replies": may_see_replies,
        "live": list(live()) if may_read else [],
        "live_in_all": Message.objects.live().to_audiences().count() if may_read else 0,
        "chart": sent_per_day(at=at) if may_read else None,
        "stuck": list(stuck(at=at))[:STUCK_SHOWN] if may_read else [],
        "replies": list(newest_replies()) if may_see_replies else [],
        "steps": list(first_steps(request)),
    }


def live() -> Iterator[dict[str, Any]]:
    """The messages that send right now, newest first, with what they did."""
    messages = list(Message.objects.live().to_audiences().order_by("-went_live_at")[:LIVE_SHOWN])
    numbers = counters.counts_of([message.pk for message in messages])
    for message in messages:
        found = numbers[message.pk]
        yield {"message": message, "counts": found, "opened": percent(found.opened, found.sent)}


def sent_per_day(*, at: datetime) -> Chart | None:
    """How many were sent on each of the last days, by channel; None where none were."""
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


def stuck(*, at: datetime) -> Iterator[Stuck]:
    """All that does not go on by itself, the most pressing first."""
    yield from silent_schedule(at=at)
    yield from troubled(at=at)
    yield from waits_too_long(at=at)
    yield from uncertain()
    yield from failed_lately(at=at)


def silent_schedule(*, at: datetime) -> Iterator[Stuck]:
    """The tasks of the schedule that have not run when they should have."""
    for task in PeriodicTask.objects.filter(name__in=schedule.TASKS).select_related("interval").order_by("name"):
        link = reverse("admin:django_celery_beat_periodictask_change", args=[task.pk])
        if not task.enabled:
            yield Stuck(what=task.name, why="This task is switched off in the schedule.", link=link, tone="warning")
            continue
        every = task.interval.schedule.run_every if task.interval else timedelta()
        last = task.last_run_at
        if last is None and at - task.date_changed > every + settings.BEAT_LATE:
            yield Stuck(what=task.name, why="It has never run. Is beat running?", link=link)
        elif last is not None and at - last > every + settings.BEAT_LATE:
            yield Stuck(what=task.name, why=f"It last ran {moment(last)}. Is beat running?", link=link)


def troubled(*, at: datetime) -> Iterator[Stuck]:
    """Messages that cannot match or go live, and scheduled ones whose time has passed."""
    overdue = Q(state=State.SCHEDULED, scheduled_for__lt=at - settings.DUE_LATE)
    rows = Message.objects.exclude(state__in=(State.STOPPED, State.SENT)).filter(~Q(problem="") | overdue)
    for message in rows.order_by("-pk")[:STUCK_SHOWN]:
        late = f"It was to go live {moment(message.scheduled_for)}." if message.scheduled_for else ""
        yield Stuck(what=message.title, why=message.problem or late, link=page_of(message.pk))


def waits_too_long(*, at: datetime) -> Iterator[Stuck]:
    """The messages whose copies are due and not handed over, the longest first."""
    running = dict(Message.objects.live().exclude(channel=Channel.IN_APP).values_list("pk", "title"))
    due = sorted((when, pk) for pk, when in counters.next_due(list(running)).items() if when < at - settings.DUE_LATE)
    for when, pk in due[:STUCK_SHOWN]:
        yield Stuck(
            what=running[pk],
            why=f"Due since {moment(when)} and not handed over. Is a worker running?",
            link=page_of(pk),
        )


def uncertain() -> Iterator[Stuck]:
    """Where it is not known whether a copy was handed over."""
    page = reverse("admin:deliveryrecord_uncertain")
    rows = (
        DeliveryRecord.objects.filter(status=Status.UNCERTAIN)
        .order_by()
        .values_list("message", "message__title")
        .annotate(many=Count("pk"))
    )
    for pk, title, many in rows.order_by("-many")[:STUCK_SHOWN]:
        why = f"{counted(many, 'copy is', 'copies are')} uncertain: handed over or not, nobody can know."
        yield Stuck(what=title, why=why, link=f"{page}?message={pk}", tone="warning")


def failed_lately(*, at: datetime) -> Iterator[Stuck]:
    """Messages of these days with copies that failed."""
    recent = Message.objects.filter(Q(state__in=RUNNING) | Q(went_live_at__gte=at - LATELY))
    titles = dict(
        recent.filter(count__failed__gt=0).order_by("-count__failed").values_list("pk", "title")[:STUCK_SHOWN]
    )
    for pk, found in counters.counts_of(list(titles)).items():
        why = f"{counted(found.failed, 'copy', 'copies')} failed."
        yield Stuck(what=titles[pk], why=why, link=f"{page_of(pk)}?status=failed#people", tone="warning")


def page_of(message: int) -> str:
    """Where a message's page is."""
    return reverse("admin:messaging_message_change", args=[message])


def newest_replies() -> Iterator[dict[str, Any]]:
    """The conversations customers replied to last, with what they replied to."""
    replied = Conversation.objects.filter(first_reply_at__isnull=False)
    for thread in replied.select_related("customer", "record__message").order_by("-first_reply_at")[:REPLIES_SHOWN]:
        yield {
            "customer": thread.customer,
            "to": thread.record.message.title if thread.record else "Wrote first",
            "when": thread.first_reply_at,
            "link": reverse("admin:delivery_conversation_change", args=[thread.pk]),
        }


def first_steps(request: HttpRequest) -> Iterator[Step]:
    """What a new workspace still lacks, for those who may add it."""
    may = request.user.has_perm
    if may("audiences.view_customer") and not Customer.objects.exists():
        yield Step(
            words="Bring in your customers: import a file, or send them over the API.",
            link=reverse("admin:audiences_customer_changelist"),
            button="People",
        )
    if may("messaging.add_sender") and not Sender.objects.exists():
        yield Step(
            words="Say who your messages are from.", link=reverse("admin:messaging_sender_add"), button="Add a sender"
        )
    if may("messaging.add_message") and not Message.objects.exists():
        yield Step(
            words="Write a message to everyone who matches, now or later.",
            link=reverse("admin:messaging_message_add"),
            button="New message",
        )
