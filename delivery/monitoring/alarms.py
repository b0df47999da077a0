"""Alarms: problems that staff must act on, stored in the database and reported by email when they begin and end.

Several processes may check at the same time: each claims an alarm's row before it sends the email.
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

from audiences.models import ConfirmationMail, Subscription, Workspace
from delivery.matching import rounds
from delivery.models import (
    Alarm,
    AlarmKind,
    AnswerMail,
    ChannelOutage,
    DeliveryRecord,
    MissedMatch,
    Refusal,
    RefusedVisitors,
    Status,
)
from delivery.models.alarm import OUTAGE_OVER_AFTER
from delivery.monitoring import health
from messaging.models import Channel, Message, Sender, SendingDomain, State

log = logging.getLogger(__name__)

# A process has this long to send an alarm's email; then another one tries.
NOTIFICATION_LEASE = timedelta(minutes=5)
# Webhooks are retried after 1, 5 and 30 minutes, so a URL that fails for this long has failed at least 3 times.
WEBHOOK_FAILING_AFTER = timedelta(minutes=15)
MAX_LISTED = 3
MIN_SECRET_KEY_LENGTH = 32
# Rounds run every hour.
UNREAD_CHANGES_AFTER = timedelta(hours=3)
UNREAD_CHANGES = (
    "Changes of customers have not been read for 3 hours. Does the schedule run the hourly round, or is a transaction"
    " open in PostgreSQL (state “idle in transaction” in pg_stat_activity)?"
)
MISSED_MATCHES_LISTED = timedelta(days=1)
MISSED_ADVICE = "They have the message by now. This is a defect of Outbound: report it with the worker’s log."


def check_beat(at: datetime) -> str:
    """Report a scheduler that does not run."""
    late = health.beat_is_late(at=at)
    return (
        f"The scheduler (celery beat) has not run since {format_moment(health.last_beat())}. Is it running?"
        if late
        else ""
    )


def check_sweep(at: datetime) -> str:
    """Report a minute sweep that does not run."""
    late = health.sweep_is_late(at=at)
    since = format_moment(health.last_sweep()) if late else ""
    return (
        f"The minute sweep has not finished since {since}. Are the scheduler, a worker and the broker running?"
        if late
        else ""
    )


def check_channels(at: datetime) -> str:
    """Report the channels that have been unavailable more than once in a row."""
    resting = ChannelOutage.objects.filter(
        last_at__gte=at - OUTAGE_OVER_AFTER, since__lte=at - OUTAGE_OVER_AFTER
    ).order_by("channel")
    return " ".join(
        f"{Channel(rest.channel).label} has been unavailable since {format_moment(rest.since)}: {rest.why}"
        for rest in resting
    )


def check_due_messages(at: datetime) -> str:
    """Report messages with overdue records of which none was sent, and changes that no round has read for hours.

    Throttled and paused messages are not reported.
    """
    stuck = [
        f"“{one}” has been due since {format_moment(since)} but is not being sent."
        for one, since in oldest_first(health.stuck_messages(at=at))
    ]
    if rounds.has_stale_entries(older_than=UNREAD_CHANGES_AFTER):
        stuck.append(UNREAD_CHANGES)
    return summarise(stuck)


def oldest_first(found: dict[Message, datetime]) -> list[tuple[Message, datetime]]:
    return sorted(found.items(), key=lambda one: one[1])


def check_messages(at: datetime) -> str:
    """Report messages that cannot match or go live, and scheduled messages that are overdue."""
    overdue = Q(state=State.SCHEDULED, scheduled_for__lt=at - settings.DUE_LATE)
    rows = Message.objects.exclude(state__in=(State.STOPPED, State.SENT)).filter(~Q(problem="") | overdue)
    return summarise(
        [f"“{one}”: {one.problem or 'it was scheduled to go live but has not.'}" for one in rows.order_by("pk")]
    )


def check_paused_messages(_at: datetime) -> str:
    """Report messages that have paused themselves and wait for a decision."""
    rows = Message.objects.exclude(paused_because="").order_by("pk")
    return summarise([f"“{one}”: {one.paused_because}" for one in rows])


def check_uncertain(_at: datetime) -> str:
    """Report how many records may or may not have been sent."""
    many = DeliveryRecord.objects.filter(status=Status.UNCERTAIN).count()
    return f"{many:,} {'copy' if many == 1 else 'copies'} may or may not have been sent." if many else ""


def check_answer_emails(at: datetime) -> str:
    """Report teammates' answers and confirmation emails that are overdue."""
    answers = AnswerMail.objects.due(at - settings.DUE_LATE).count()
    confirmations = ConfirmationMail.objects.due(at - settings.DUE_LATE).count()
    found = []
    if answers:
        found.append(f"{answers:,} {'answer has' if answers == 1 else 'answers have'} not been emailed on time.")
    if confirmations:
        emails = "confirmation email has" if confirmations == 1 else "confirmation emails have"
        found.append(f"{confirmations:,} {emails} not been sent on time.")
    return summarise(found)


def check_webhooks(at: datetime) -> str:
    """Report webhook URLs that have failed for a while."""
    failing = Subscription.objects.filter(active=True, failing_since__lt=at - WEBHOOK_FAILING_AFTER).order_by(
        "failing_since"
    )
    return summarise([f"{one.url} has been failing since {format_moment(one.failing_since)}." for one in failing])


def check_refused_visitors(at: datetime) -> str:
    """Report many visitors without a valid user_hash today or yesterday, with the likely causes."""
    today = timezone.localtime(at, Workspace.current().tz).date()
    for day in (today, today - timedelta(days=1)):
        counts = dict(RefusedVisitors.objects.filter(day=day).values_list("reason", "count"))
        if (many := sum(counts.values())) >= max(1, settings.REFUSED_VISITORS_ALARM):
            causes = [f"{counts[reason]:,} {cause}" for reason, cause in REFUSAL_CAUSES.items() if reason in counts]
            return (
                f"{many:,} visitors were refused on {day:%-d %b %Y} and do not see the messenger: {'; '.join(causes)}."
            )
    return ""


REFUSAL_CAUSES: dict[Refusal, str] = {
    Refusal.ADDRESS_FORM: (
        "with an email address that is not in lower case (your website must send and sign it in lower case)"
    ),
    Refusal.USER_ID_FORM: "with a user_id that has surrounding spaces or is neither a string nor an integer",
    Refusal.NOT_SIGNED: (
        "with a missing or wrong user_hash (your website may sign with an old identity secret, or sign the email"
        " address of users for whom it sends a user_id)"
    ),
}


def check_secret_key(_at: datetime) -> str:
    """Report a short SECRET_KEY, and how to replace it. A new installation refuses one."""
    length = len(settings.SECRET_KEY)
    if length >= MIN_SECRET_KEY_LENGTH:
        return ""
    return (
        f"SECRET_KEY has {length} characters; it needs at least {MIN_SECRET_KEY_LENGTH}. Set a new key, and add the old"
        " one to SECRET_KEY_FALLBACKS: links in sent emails, sessions and stored secrets then stay valid."
    )


def summarise(sentences: list[str]) -> str:
    """Join the first sentences, and count the others."""
    more = len(sentences) - MAX_LISTED
    return " ".join([*sentences[:MAX_LISTED], *([f"And {more:,} more."] if more > 0 else [])])


def format_moment(at: datetime | None) -> str:
    """Format a moment in the workspace's time zone."""
    return f"{timezone.localtime(at, Workspace.current().tz):%-d %b %Y, %H:%M}" if at else "the installation"


def check_missed_matches(at: datetime) -> str:
    """Report the customers whom matching by changes has missed, for a day. They have their records by now."""
    rows = MissedMatch.objects.filter(found_at__gt=at - MISSED_MATCHES_LISTED, found_at__lte=at)
    found = summarise([f"{missed}." for missed in rows.select_related("message").order_by("found_at", "pk")])
    return f"{found} {MISSED_ADVICE}" if found else ""


def check_clocks(at: datetime) -> str:
    """Report the machines whose clock differs from the database's. Leases are judged by the database's clock."""
    wrong = [str(clock) for clock in health.known_clocks(at=at) if health.clock_is_wrong(clock.ahead)]
    return f"{summarise(wrong)} Is a time service (NTP) running there?" if wrong else ""


def check_sender_domains(_at: datetime) -> str:
    """Report the domains of live emails that large mailbox providers reject, as the daily check found them."""
    live = Message.objects.filter(channel=Channel.EMAIL, state=State.LIVE)
    names = {sender.domain for sender in Sender.objects.filter(pk__in=live.values("sender"))}
    domains = SendingDomain.objects.filter(pk__in=names).order_by("pk")
    return summarise([f"{domain}: {problem}" for domain in domains if (problem := domain.rejection)])


CHECKS: dict[AlarmKind, Callable[[datetime], str]] = {
    AlarmKind.BEAT: check_beat,
    AlarmKind.SWEEP: check_sweep,
    AlarmKind.CHANNEL: check_channels,
    AlarmKind.DUE: check_due_messages,
    AlarmKind.TROUBLE: check_messages,
    AlarmKind.PAUSED: check_paused_messages,
    AlarmKind.UNCERTAIN: check_uncertain,
    AlarmKind.ANSWERS: check_answer_emails,
    AlarmKind.WEBHOOKS: check_webhooks,
    AlarmKind.REFUSED: check_refused_visitors,
    AlarmKind.MISSED: check_missed_matches,
    AlarmKind.SECRET_KEY: check_secret_key,
    AlarmKind.CLOCK: check_clocks,
    AlarmKind.DOMAIN: check_sender_domains,
}
# The console page on which staff can solve the problem.
PAGES: dict[AlarmKind, str] = {
    AlarmKind.BEAT: "/admin/django_celery_beat/periodictask/",
    AlarmKind.SWEEP: "/admin/django_celery_beat/periodictask/",
    AlarmKind.CHANNEL: "/admin/delivery/pace/",
    AlarmKind.DUE: "/admin/",
    AlarmKind.TROUBLE: "/admin/",
    AlarmKind.PAUSED: "/admin/",
    AlarmKind.UNCERTAIN: "/admin/delivery/deliveryrecord/uncertain/",
    AlarmKind.ANSWERS: "/admin/delivery/conversation/",
    AlarmKind.WEBHOOKS: "/admin/audiences/subscription/",
    AlarmKind.REFUSED: "/admin/audiences/integration/#identity",
    AlarmKind.MISSED: "/admin/",
    AlarmKind.SECRET_KEY: "/admin/",
    AlarmKind.CLOCK: "/admin/",
    AlarmKind.DOMAIN: "/admin/messaging/sender/domains/",
}


def check_alarms(*, at: datetime) -> None:
    """Run all checks once: store new and ended problems, and send the emails."""
    for kind, found in CHECKS.items():
        if words := found(at):
            raise_alarm(kind, words, at=at)
        # A problem that comes and goes is one alarm, not an email each minute.
        elif Alarm.objects.filter(kind=kind, over_at=None, seen_at__lt=at - settings.ALARM_OVER_AFTER).update(
            over_at=at
        ):
            log.info("alarm over: %s", kind)
    send_notifications(at=at)


def raise_alarm(kind: AlarmKind, words: str, *, at: datetime) -> None:
    """Store or update an alarm. With several processes, the first one creates the row."""
    if Alarm.objects.filter(kind=kind, over_at=None).update(seen_at=at, description=words):
        return
    Alarm.objects.bulk_create([Alarm(kind=kind, description=words, began_at=at, seen_at=at)], ignore_conflicts=True)
    log.warning("alarm: %s", kind)


def send_notifications(*, at: datetime) -> None:
    """Send the emails that are due. A failed email is retried; an alarm that has ended by then gets one email."""
    untold = Alarm.objects.filter(Q(notified_at=None) | Q(over_at__isnull=False, end_notified_at=None))
    for alarm in untold.order_by("pk"):
        free = Alarm.objects.filter(Q(notifying_until=None) | Q(notifying_until__lt=at), pk=alarm.pk)
        still = free.filter(notified_at=alarm.notified_at, end_notified_at=alarm.end_notified_at, over_at=alarm.over_at)
        if not still.update(notifying_until=at + NOTIFICATION_LEASE):
            continue  # Another process sends it.
        try:
            send_email(alarm)
        except Exception:
            # Email itself may be the problem. The console shows the alarm.
            log.exception("alarm %s cannot be emailed", alarm.pk)
            continue
        changes: dict[str, Any] = {"notified_at": alarm.notified_at or at, "notifying_until": None}
        Alarm.objects.filter(pk=alarm.pk).update(**changes, **({"end_notified_at": at} if alarm.over_at else {}))


def send_email(alarm: Alarm) -> None:
    """Send the email that an alarm began or ended."""
    workspace = Workspace.current()
    to = recipients(workspace)
    if not to:
        log.warning("alarm %s: no recipient has an email address", alarm.pk)
        return
    kind = alarm.get_kind_display()
    if alarm.over_at:
        subject = f"Resolved: {kind.lower()}"
        ended, began = format_moment(alarm.over_at), format_moment(alarm.began_at)
        text = f"The problem ended on {ended}.\n\nIt began on {began}:\n{alarm.description}\n"
    else:
        subject = f"Alarm: {kind.lower()}"
        text = (
            f"{alarm.description}\n\nOpen in Outbound: {settings.PUBLIC_URL}{PAGES[AlarmKind(alarm.kind)]}\n\n"
            "You will receive one more email when the problem is resolved.\n"
        )
    # RFC 3834: no auto-reply must answer this email.
    headers = {"Auto-Submitted": "auto-generated"}
    subject = f"{subject} ({workspace.name})"
    EmailMessage(subject, text, settings.DEFAULT_FROM_EMAIL, to, headers=headers).send()


def recipients(workspace: Workspace) -> list[str]:
    """Return the workspace's alarm addresses, or else those of the staff who may change the workspace."""
    if workspace.alarm_to:
        return workspace.alarm_to.replace(",", " ").split()
    backend = "django.contrib.auth.backends.ModelBackend"
    admins = User.objects.with_perm("audiences.change_workspace", backend=backend)
    found = admins.filter(is_active=True, is_staff=True).exclude(email="").order_by("email")
    return list(dict.fromkeys(found.values_list("email", flat=True)))


def active_alarms(*, at: datetime) -> list[Alarm]:
    """Return the active alarms, most important first.

    If the sweep, which runs the checks, is late, that is an alarm too.
    """
    found = {alarm.kind: alarm for alarm in Alarm.objects.filter(over_at=None)}
    if AlarmKind.SWEEP not in found and health.last_sweep() and (words := check_sweep(at)):
        found[AlarmKind.SWEEP] = Alarm(kind=AlarmKind.SWEEP, description=words, began_at=at, seen_at=at)
    return [found[kind] for kind in AlarmKind if kind in found]
