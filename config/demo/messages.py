"""The messages of the demo's company: three ongoing onboarding messages and a one-off."""

from datetime import datetime
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry

from audiences.models import Audience, MessageTopic
from config.demo import past
from config.demo.company import every, rule
from config.demo.staff import Team
from delivery.matching import launch, ongoing
from messaging import authoring
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
        "title": "First project",
        "channel": Channel.IN_APP,
        "format": Format.CHAT,
        "topic": "Tips",
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
        "title": "Trial about to end",
        "channel": Channel.EMAIL,
        "send_type": SendType.ONGOING,
        "rules": every(
            rule("custom_attributes.trial_ends_at", "in_less_than_days", 3),
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
        "title": "New: reports you can share",
        "channel": Channel.EMAIL,
        "send_type": SendType.ONE_OFF,
        "topic": "Product news",
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


# With the descriptions that customers see.
TOPICS = {
    "Product news": "What is new in Fernwood, about once a month.",
    "Tips": "How to get more out of your projects.",
}


def fill_messages(team: Team, *, at: datetime) -> None:
    """Create the messages and set each live on its day. The worker sends them to customers who match now."""
    sender = Sender.objects.create(
        name="Sam from Fernwood", email="sam@fernwood.example", reply_to="sam@fernwood.example", teammate=team.support
    )
    # The user of the demo can log in as either of them.
    sender.users.add(team.boss)
    topics = {name: MessageTopic.objects.create(name=name, description=said) for name, said in TOPICS.items()}
    for written in MESSAGES:
        began = at - past.BEGAN[written["title"]]
        topic = topics.get(written.get("topic", ""))
        message = create_draft(**{**written, "topic": topic}, sender=sender, team=team, at=began)
        launch.launch(message, at=began)
        log_set_live(message, team, at=began)
        past.fill_history(message, at=at)
        ongoing.match(message, at=at)


def log_set_live(message: Message, team: Team, *, at: datetime) -> None:
    """Add the entry of the change log for setting the message live."""
    live = f"Set live: from {State.DRAFT.label} to {State.LIVE.label}"
    entry = LogEntry.objects.log_actions(team.support.pk, [message], CHANGE, live, single_object=True)
    LogEntry.objects.filter(pk=entry.pk).update(action_time=at)


def create_draft(
    *, rules: dict[str, Any], subject: str, body: str, sender: Sender, team: Team, at: datetime, **fields: Any
) -> Message:
    audience = Audience.objects.create(rules=rules)
    message = Message(audience=audience, sender=sender, created_by=team.support, **fields)
    message.full_clean(exclude=["version"])
    message.save()
    authoring.revise(message, subject=subject, body=body.strip(), by=team.support, at=at)
    return message
