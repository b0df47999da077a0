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
from delivery.models.alarm import RESTED
from delivery.monitoring import health
from messaging.models import Channel, Message, State

log = logging.getLogger(__name__)

# Who tells has so long; then another tries.
NOTIFICATION_LEASE = timedelta(minutes=5)
# Webhooks are tried again after 1, 5 and 30 minutes: an address that was away for that long is no passing fault.
WEBHOOK_FAILING_AFTER = timedelta(minutes=15)
MAX_LISTED = 3


def check_beat(at: datetime) -> str:
    """Whether anything is asked for."""
    late = health.beat_is_late(at=at)
    return f"Beat asked for nothing since {format_moment(health.last_beat())}. Is its process running?" if late else ""


def check_sweep(at: datetime) -> str:
    """Whether the minute's sweep runs."""
    late = health.sweep_is_late(at=at)
    since = format_moment(health.last_sweep()) if late else ""
    return f"No sweep has ended since {since}. Are beat, a worker and the broker running?" if late else ""


def check_channels(at: datetime) -> str:
    """The channels that take nothing, and did so more than once."""
    resting = ChannelOutage.objects.filter(last_at__gte=at - RESTED, since__lte=at - RESTED).order_by("channel")
    return " ".join(
        f"{Channel(rest.channel).label} takes nothing since {format_moment(rest.since)}: {rest.why}" for rest in resting
    )


def check_due_messages(at: datetime) -> str:
    """The messages whose copies are due while none was handed over for as long; a pace or a pause is no fault."""
    stuck = health.stuck_messages(at=at)
    return summarise(
        [f"“{one}” is due since {format_moment(since)} and not handed over." for one, since in oldest_first(stuck)]
    )


def oldest_first(found: dict[Message, datetime]) -> list[tuple[Message, datetime]]:
    """The oldest first."""
    return sorted(found.items(), key=lambda one: one[1])


def check_messages(at: datetime) -> str:
    """Messages that cannot match or go live, and scheduled ones whose time has passed."""
    overdue = Q(state=State.SCHEDULED, scheduled_for__lt=at - settings.DUE_LATE)
    rows = Message.objects.exclude(state__in=(State.STOPPED, State.SENT)).filter(~Q(trouble="") | overdue)
    return summarise([f"“{one}”: {one.trouble or 'it was to go live, and is not.'}" for one in rows.order_by("pk")])


def check_uncertain(_at: datetime) -> str:
    """How many copies nobody can know of."""
    many = DeliveryRecord.objects.filter(status=Status.UNCERTAIN).count()
    return f"{many:,} {'copy is' if many == 1 else 'copies are'} uncertain: handed over or not." if many else ""


def check_answer_emails(at: datetime) -> str:
    """How many answers of teammates should have been mailed."""
    many = AnswerMail.objects.due(at - settings.DUE_LATE).count()
    return f"{many:,} {'answer is' if many == 1 else 'answers are'} due and not mailed." if many else ""


def check_webhooks(at: datetime) -> str:
    """The addresses that have not been reached for a while."""
    failing = Subscription.objects.filter(active=True, failing_since__lt=at - WEBHOOK_FAILING_AFTER).order_by(
        "failing_since"
    )
    return summarise([f"{one.url} was not reached since {format_moment(one.failing_since)}." for one in failing])


def check_refused_visitors(at: datetime) -> str:
    """Whether many visitors could not prove who they are, today or yesterday, and what is the likely cause."""
    today = timezone.localtime(at, Workspace.current().tz).date()
    for day in (today, today - timedelta(days=1)):
        counts = dict(RefusedVisitors.objects.filter(day=day).values_list("reason", "count"))
        if (many := sum(counts.values())) >= max(1, settings.REFUSED_VISITORS_ALARM):
            causes = [f"{counts[reason]:,} {cause}" for reason, cause in REFUSAL_CAUSES.items() if reason in counts]
            return f"{many:,} visitors were refused on {day:%-d %b %Y}, and see no messenger: {'; '.join(causes)}."
    return ""


REFUSAL_CAUSES: dict[Refusal, str] = {
    Refusal.ADDRESS_FORM: "with an address that is not in lower case (your website must send and sign it so)",
    Refusal.USER_ID_FORM: "with a user_id that has spaces around it or is no whole number or text",
    Refusal.NOT_SIGNED: (
        "whose user_hash is missing or wrong (perhaps your website signs with an old identity secret, or signs the"
        " address where it names a user_id)"
    ),
}


def summarise(sentences: list[str]) -> str:
    """A few of them, and how many more there are."""
    more = len(sentences) - MAX_LISTED
    return " ".join([*sentences[:MAX_LISTED], *([f"And {more:,} more."] if more > 0 else [])])


def format_moment(at: datetime | None) -> str:
    """A moment as the workspace reads it."""
    return f"{timezone.localtime(at, Workspace.current().tz):%-d %b %Y, %H:%M}" if at else "the beginning"


CHECKS: dict[AlarmKind, Callable[[datetime], str]] = {
    AlarmKind.BEAT: check_beat,
    AlarmKind.SWEEP: check_sweep,
    AlarmKind.CHANNEL: check_channels,
    AlarmKind.DUE: check_due_messages,
    AlarmKind.TROUBLE: check_messages,
    AlarmKind.UNCERTAIN: check_uncertain,
    AlarmKind.ANSWERS: check_answer_emails,
    AlarmKind.WEBHOOKS: check_webhooks,
    AlarmKind.REFUSED: check_refused_visitors,
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


def check_alarms(*, at: datetime) -> None:
    """Look once: note what is stuck and what is over, and tell whom it concerns."""
    for kind, found in CHECKS.items():
        if words := found(at):
            raise_alarm(kind, words, at=at)
        # What comes and goes is one alarm, not a mail each minute.
        elif Alarm.objects.filter(kind=kind, over_at=None, seen_at__lt=at - settings.ALARM_OVER_AFTER).update(
            over_at=at
        ):
            log.info("alarm over: %s", kind)
    send_notifications(at=at)


def raise_alarm(kind: AlarmKind, words: str, *, at: datetime) -> None:
    """Note that it is stuck, or still is: whoever is first makes the row, and all others find it."""
    if Alarm.objects.filter(kind=kind, over_at=None).update(seen_at=at, words=words):
        return
    Alarm.objects.bulk_create([Alarm(kind=kind, words=words, began_at=at, seen_at=at)], ignore_conflicts=True)
    log.warning("alarm: %s", kind)


def send_notifications(*, at: datetime) -> None:
    """Mail what is not told yet. What cannot leave is tried again later; if it ended before, one mail says all."""
    untold = Alarm.objects.filter(Q(told_at=None) | Q(over_at__isnull=False, told_over_at=None))
    for alarm in untold.order_by("pk"):
        free = Alarm.objects.filter(Q(telling_until=None) | Q(telling_until__lt=at), pk=alarm.pk)
        still = free.filter(told_at=alarm.told_at, told_over_at=alarm.told_over_at, over_at=alarm.over_at)
        if not still.update(telling_until=at + NOTIFICATION_LEASE):
            continue  # Somebody else tells it.
        try:
            send_email(alarm)
        except Exception:
            # Mail itself may be what is stuck. The console shows it meanwhile.
            log.exception("alarm %s cannot be mailed", alarm.pk)
            continue
        told: dict[str, Any] = {"told_at": alarm.told_at or at, "telling_until": None}
        Alarm.objects.filter(pk=alarm.pk).update(**told, **({"told_over_at": at} if alarm.over_at else {}))


def send_email(alarm: Alarm) -> None:
    """Tell the workspace's addresses that it began, or that it is over."""
    workspace = Workspace.current()
    to = recipients(workspace)
    if not to:
        log.warning("alarm %s: nobody has an address to tell it to", alarm.pk)
        return
    what = alarm.get_kind_display()
    if alarm.over_at:
        subject = f"Over: {what.lower()}"
        ended, began = format_moment(alarm.over_at), format_moment(alarm.began_at)
        text = f"The problem ended on {ended}.\n\nIt began on {began}:\n{alarm.words}\n"
    else:
        subject = f"Alarm: {what.lower()}"
        text = (
            f"{alarm.words}\n\nLook after it: {settings.PUBLIC_URL}{PAGES[AlarmKind(alarm.kind)]}\n\n"
            "You hear of this once more, when it is over.\n"
        )
    # A program wrote it: no absence notice is to answer.
    headers = {"Auto-Submitted": "auto-generated"}
    subject = f"{subject} ({workspace.name})"
    EmailMessage(subject, text, settings.DEFAULT_FROM_EMAIL, to, headers=headers).send()


def recipients(workspace: Workspace) -> list[str]:
    """Whom to tell: the addresses the workspace names, or else whoever may change it."""
    if workspace.alarm_to:
        return workspace.alarm_to.replace(",", " ").split()
    backend = "django.contrib.auth.backends.ModelBackend"
    admins = User.objects.with_perm("audiences.change_workspace", backend=backend)
    found = admins.filter(is_active=True, is_staff=True).exclude(email="").order_by("email")
    return list(dict.fromkeys(found.values_list("email", flat=True)))


def active_alarms(*, at: datetime) -> list[Alarm]:
    """What is stuck, the most pressing first; with no sweep for long, that too, whoever should have noted it."""
    found = {alarm.kind: alarm for alarm in Alarm.objects.filter(over_at=None)}
    if AlarmKind.SWEEP not in found and health.last_sweep() and (words := check_sweep(at)):
        found[AlarmKind.SWEEP] = Alarm(kind=AlarmKind.SWEEP, words=words, began_at=at, seen_at=at)
    return [found[kind] for kind in AlarmKind if kind in found]
