"""Alarms: what is stuck, noted in the database, and told by email once when it begins and once when it is over.

Whoever runs a round of this, and as many as do, the row says who tells: it is claimed before a mail leaves.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.db.models import Q
from django.utils import timezone

from audiences.models import Subscription, Workspace
from delivery.models import (
    Alarm,
    AlarmKind,
    AnswerMail,
    ChannelOutage,
    DeliveryRecord,
    Refusal,
    RefusedVisitors,
    Status,
)
from delivery.models.alarm import OUTAGE_OVER_AFTER
from delivery.monitoring import health
from messaging.models import Channel, Message, State

log = logging.getLogger(__name__)

# Who tells has so long; then another tries.
LEASE = timedelta(minutes=5)
# Webhooks are tried again after 1, 5 and 30 minutes: an address that was away for that long is no passing fault.
FAILING = timedelta(minutes=15)
NAMED = 3


def beat(at: datetime) -> str:
    """Whether anything is asked for."""
    late = health.beat_is_late(at=at)
    return f"Beat asked for nothing since {moment(health.last_beat())}. Is its process running?" if late else ""


def sweep(at: datetime) -> str:
    """Whether the minute's sweep runs."""
    late = health.sweep_is_late(at=at)
    since = moment(health.last_sweep()) if late else ""
    return f"No sweep has ended since {since}. Are beat, a worker and the broker running?" if late else ""


def channel(at: datetime) -> str:
    """The channels that take nothing, and did so more than once."""
    resting = ChannelOutage.objects.filter(
        last_at__gte=at - OUTAGE_OVER_AFTER, since__lte=at - OUTAGE_OVER_AFTER
    ).order_by("channel")
    return " ".join(
        f"{Channel(rest.channel).label} takes nothing since {moment(rest.since)}: {rest.why}" for rest in resting
    )


def due(at: datetime) -> str:
    """The messages whose copies are due while none was handed over for as long; a pace or a pause is no fault."""
    stuck = health.stuck(at=at)
    return summarise([f"“{one}” is due since {moment(since)} and not handed over." for one, since in by_time(stuck)])


def by_time(found: dict[Message, datetime]) -> list[tuple[Message, datetime]]:
    """The oldest first."""
    return sorted(found.items(), key=lambda one: one[1])


def messages_in_trouble(at: datetime) -> str:
    """Messages that cannot match or go live, and scheduled ones whose time has passed."""
    overdue = Q(state=State.SCHEDULED, scheduled_for__lt=at - settings.DUE_LATE)
    rows = Message.objects.exclude(state__in=(State.STOPPED, State.SENT)).filter(~Q(trouble="") | overdue)
    return summarise([f"“{one}”: {one.trouble or 'it was to go live, and is not.'}" for one in rows.order_by("pk")])


def uncertain(_at: datetime) -> str:
    """How many copies nobody can know of."""
    many = DeliveryRecord.objects.filter(status=Status.UNCERTAIN).count()
    return f"{many:,} {'copy is' if many == 1 else 'copies are'} uncertain: handed over or not." if many else ""


def answers(at: datetime) -> str:
    """How many answers of teammates should have been mailed."""
    many = AnswerMail.objects.due(at - settings.DUE_LATE).count()
    return f"{many:,} {'answer is' if many == 1 else 'answers are'} due and not mailed." if many else ""


def webhooks(at: datetime) -> str:
    """The addresses that have not been reached for a while."""
    failing = Subscription.objects.filter(active=True, failing_since__lt=at - FAILING).order_by("failing_since")
    return summarise([f"{one.url} was not reached since {moment(one.failing_since)}." for one in failing])


def refused(at: datetime) -> str:
    """Whether many visitors could not prove who they are, today or yesterday, and what is the likely cause."""
    today = timezone.localtime(at, Workspace.current().tz).date()
    for day in (today, today - timedelta(days=1)):
        counts = dict(RefusedVisitors.objects.filter(day=day).values_list("reason", "count"))
        if (many := sum(counts.values())) >= max(1, settings.REFUSED_VISITORS_ALARM):
            causes = [f"{counts[reason]:,} {cause}" for reason, cause in CAUSES.items() if reason in counts]
            return f"{many:,} visitors were refused on {day:%-d %b %Y}, and see no messenger: {'; '.join(causes)}."
    return ""


CAUSES: dict[Refusal, str] = {
    Refusal.ADDRESS_FORM: "with an address that is not in lower case (your website must send and sign it so)",
    Refusal.USER_ID_FORM: "with a user_id that has spaces around it or is no whole number or text",
    Refusal.NOT_SIGNED: (
        "whose user_hash is missing or wrong (perhaps your website signs with an old identity secret, or signs the"
        " address where it names a user_id)"
    ),
}


def summarise(sentences: list[str]) -> str:
    """A few of them, and how many more there are."""
    more = len(sentences) - NAMED
    return " ".join([*sentences[:NAMED], *([f"And {more:,} more."] if more > 0 else [])])


def moment(at: datetime | None) -> str:
    """A moment as the workspace reads it."""
    return f"{timezone.localtime(at, Workspace.current().tz):%-d %b %Y, %H:%M}" if at else "the beginning"


WATCHED: dict[AlarmKind, Callable[[datetime], str]] = {
    AlarmKind.BEAT: beat,
    AlarmKind.SWEEP: sweep,
    AlarmKind.CHANNEL: channel,
    AlarmKind.DUE: due,
    AlarmKind.TROUBLE: messages_in_trouble,
    AlarmKind.UNCERTAIN: uncertain,
    AlarmKind.ANSWERS: answers,
    AlarmKind.WEBHOOKS: webhooks,
    AlarmKind.REFUSED: refused,
}
# Where each is looked after, in the console.
PAGES: dict[AlarmKind, str] = {
    AlarmKind.BEAT: "/admin/django_celery_beat/periodictask/",
    AlarmKind.SWEEP: "/admin/django_celery_beat/periodictask/",
    AlarmKind.CHANNEL: "/admin/delivery/pace/",
    AlarmKind.DUE: "/admin/",
    AlarmKind.TROUBLE: "/admin/",
    AlarmKind.UNCERTAIN: "/admin/delivery/deliveryrecord/uncertain/",
    AlarmKind.ANSWERS: "/admin/delivery/conversation/",
    AlarmKind.WEBHOOKS: "/admin/audiences/subscription/",
    AlarmKind.REFUSED: "/admin/audiences/integration/#identity",
}


def watch(*, at: datetime) -> None:
    """Look once: note what is stuck and what is over, and tell whom it concerns."""
    for kind, found in WATCHED.items():
        if words := found(at):
            ring(kind, words, at=at)
        # What comes and goes is one alarm, not a mail each minute.
        elif Alarm.objects.filter(kind=kind, over_at=None, seen_at__lt=at - settings.ALARM_OVER_AFTER).update(
            over_at=at
        ):
            log.info("alarm over: %s", kind)
    tell(at=at)


def ring(kind: AlarmKind, words: str, *, at: datetime) -> None:
    """Note that it is stuck, or still is: whoever is first makes the row, and all others find it."""
    if Alarm.objects.filter(kind=kind, over_at=None).update(seen_at=at, description=words):
        return
    Alarm.objects.bulk_create([Alarm(kind=kind, description=words, began_at=at, seen_at=at)], ignore_conflicts=True)
    log.warning("alarm: %s", kind)


def tell(*, at: datetime) -> None:
    """Mail what is not told yet. What cannot leave is tried again later; if it ended before, one mail says all."""
    untold = Alarm.objects.filter(Q(told_at=None) | Q(over_at__isnull=False, told_over_at=None))
    for alarm in untold.order_by("pk"):
        free = Alarm.objects.filter(Q(telling_until=None) | Q(telling_until__lt=at), pk=alarm.pk)
        still = free.filter(told_at=alarm.told_at, told_over_at=alarm.told_over_at, over_at=alarm.over_at)
        if not still.update(telling_until=at + LEASE):
            continue  # Somebody else tells it.
        try:
            mail(alarm)
        except Exception:
            # Mail itself may be what is stuck. The console shows it meanwhile.
            log.exception("alarm %s cannot be mailed", alarm.pk)
            continue
        told: dict[str, Any] = {"told_at": alarm.told_at or at, "telling_until": None}
        Alarm.objects.filter(pk=alarm.pk).update(**told, **({"told_over_at": at} if alarm.over_at else {}))


def mail(alarm: Alarm) -> None:
    """Tell the workspace's addresses that it began, or that it is over."""
    workspace = Workspace.current()
    to = addresses(workspace)
    if not to:
        log.warning("alarm %s: nobody has an address to tell it to", alarm.pk)
        return
    what = alarm.get_kind_display()
    if alarm.over_at:
        subject = f"Over: {what.lower()}"
        text = f"It is over since {moment(alarm.over_at)}.\n\nIt began {moment(alarm.began_at)}:\n{alarm.description}\n"
    else:
        subject = f"Alarm: {what.lower()}"
        text = (
            f"{alarm.description}\n\nLook after it: {settings.PUBLIC_URL}{PAGES[AlarmKind(alarm.kind)]}\n\n"
            "You hear of this once more, when it is over.\n"
        )
    # A program wrote it: no absence notice is to answer.
    headers = {"Auto-Submitted": "auto-generated"}
    subject = f"{subject} ({workspace.name})"
    EmailMessage(subject, text, settings.DEFAULT_FROM_EMAIL, to, headers=headers).send()


def addresses(workspace: Workspace) -> list[str]:
    """Whom to tell: the addresses the workspace names, or else whoever may change it."""
    if workspace.alarm_to:
        return workspace.alarm_to.replace(",", " ").split()
    backend = "django.contrib.auth.backends.ModelBackend"
    admins = User.objects.with_perm("audiences.change_workspace", backend=backend)
    found = admins.filter(is_active=True, is_staff=True).exclude(email="").order_by("email")
    return list(dict.fromkeys(found.values_list("email", flat=True)))


def ringing(*, at: datetime) -> list[Alarm]:
    """What is stuck, the most pressing first; with no sweep for long, that too, whoever should have noted it."""
    found = {alarm.kind: alarm for alarm in Alarm.objects.filter(over_at=None)}
    if AlarmKind.SWEEP not in found and health.last_sweep() and (words := sweep(at)):
        found[AlarmKind.SWEEP] = Alarm(kind=AlarmKind.SWEEP, description=words, began_at=at, seen_at=at)
    return [found[kind] for kind in AlarmKind if kind in found]
