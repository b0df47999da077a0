"""What the demo's company has sent: three ongoing onboarding messages, and two one-offs."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry

from audiences.models import Audience
from config.demo import past
from config.demo.company import every, rule
from config.demo.staff import Team
from delivery import matching
from messaging.models import Channel, Format, Message, Sender, SendType, State

MESSAGES: tuple[dict[str, Any], ...] = (
    {
        "title": "Welcome",
        "channel": Channel.EMAIL,
        "send_type": SendType.ONGOING,
        "rules": every(rule("signed_up_at", "less_than_days_ago", 7)),
        "subject": "Welcome to Fernwood, {{ first_name | default: 'friend' }}",
        "body": """
<p>Hi {{ first_name | default: "there" }},</p>
<p>It is good to have you here. Your trial runs for two weeks, and everything is switched on.</p>
<p>The best first step is to <a href="https://fernwood.example/projects/new">create a project</a>.</p>
<p>Just reply to this mail if you need a hand.</p>
<p>Sam</p>
""",
    },
    {
        "title": "Trial about to end",
        "channel": Channel.EMAIL,
        "send_type": SendType.ONGOING,
        # Negative days are in the future: it ends, and in less than three days.
        "rules": every(
            rule("custom_attributes.trial_ends_at", "more_than_days_ago", -3),
            rule("custom_attributes.trial_ends_at", "less_than_days_ago", 0),
            rule("custom_attributes.plan", "is", "trial"),
        ),
        "window": [{"weekday": day, "from": "09:00", "to": "17:00"} for day in range(5)],
        "subject": "Your trial ends in a few days",
        "body": """
<p>Hi {{ first_name | default: "there" }},</p>
<p>Your trial is about to end. Your {{ custom_attributes.projects | default: "first" }} projects stay as they are.</p>
<p><a href="https://fernwood.example/plans">Choose a plan</a> to keep working on them.</p>
<p>Sam</p>
""",
    },
    {
        "title": "Planned maintenance",
        "channel": Channel.EMAIL,
        "send_type": SendType.ONE_OFF,
        "rules": every(rule("custom_attributes.plan", "is", "pro"), rule("custom_attributes.is_admin", "is_true")),
        "subject": "Fernwood rests for an hour on Sunday",
        "body": """
<p>Hi {{ first_name | default: "there" }},</p>
<p>On Sunday between 06:00 and 07:00 we move to larger machines. Nothing is lost, and nothing you do.</p>
<p><a href="https://status.fernwood.example/">Follow along</a></p>
<p>Sam</p>
""",
    },
    {
        "title": "First project",
        "channel": Channel.IN_APP,
        "format": Format.CHAT,
        "send_type": SendType.ONGOING,
        "rules": every(
            rule("signed_up_at", "more_than_days_ago", 2),
            rule("signed_up_at", "less_than_days_ago", 30),
            rule("event.created-project", "has_not_happened"),
        ),
        "subject": "",
        "body": """
<p>Hi {{ first_name | default: "there" }}, I saw that you have no project yet.</p>
<p>Shall I show you around? It takes five minutes.</p>
""",
    },
    {
        "title": "New: reports you can share",
        "channel": Channel.EMAIL,
        "send_type": SendType.ONE_OFF,
        "rules": every(
            rule("last_seen_at", "less_than_days_ago", 30), rule("event_count.exported-report", "greater_than", 4)
        ),
        "subject": "Reports you can share",
        "body": """
<p>Hi {{ first_name | default: "there" }},</p>
<p>You export reports often. From today you can share one with a link instead.</p>
<p><a href="https://fernwood.example/reports">See how it works</a></p>
<p>Sam</p>
""",
    },
)


# How many days ago each went live; the others do it as the demo starts.
SINCE = {"Welcome": 28, "Trial about to end": 28, "Planned maintenance": 16}


def fill(team: Team, *, at: datetime) -> None:
    """Write the messages and set them live; who matches gets them once the worker runs."""
    sender = Sender.objects.create(
        name="Sam from Fernwood", email="sam@fernwood.example", reply_to="sam@fernwood.example", teammate=team.support
    )
    for written in MESSAGES:
        since = at - timedelta(days=SINCE.get(written["title"], 0))
        message = write(**written, sender=sender, team=team, at=since)
        matching.launch(message, at=since)
        tell_the_log(message, team, at=since)
        if since < at:
            past.went(message, since=since, at=at)
        matching.match(message, at=at)


def tell_the_log(message: Message, team: Team, *, at: datetime) -> None:
    """Note who set it live."""
    live = State.LIVE.label
    entry = LogEntry.objects.log_actions(
        team.support.pk, [message], CHANGE, change_message=f"Set live: from {State.DRAFT.label} to {live}",
        single_object=True,
    )  # fmt: skip
    LogEntry.objects.filter(pk=entry.pk).update(action_time=at)


def write(
    *,
    rules: dict[str, Any],
    subject: str,
    body: str,
    sender: Sender,
    team: Team,
    at: datetime,
    **fields: Any,
) -> Message:
    """Compose one message as a draft."""
    audience = Audience.objects.create(rules=rules)
    message = Message(audience=audience, sender=sender, created_by=team.support, **fields)
    message.full_clean(exclude=["version"])
    message.save()
    message.revise(subject=subject, body=body.strip(), by=team.support, at=at)
    return message
