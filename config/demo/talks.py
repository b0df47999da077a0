"""The conversations of the demo's Inbox, the same at each start except for the dates."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User

from audiences.models import Customer
from audiences.models.customers import Role
from config.demo.staff import Team
from delivery.conversations import threads
from delivery.models import Conversation
from delivery.visits import visit

THEY, WE, NOTE = "they", "we", "note"
# Minutes between two messages.
PAUSE = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """One conversation: how many hours ago it began, its messages, and its state."""

    hours: float
    said: tuple[tuple[str, str], ...]
    # The assignee: "boss", "support", or "".
    of: str = ""
    end: str = ""
    was_seen: bool = True


TALKS: tuple[Talk, ...] = (
    Talk(hours=0.4, was_seen=False, said=((THEY, "Hi! Can I move a project from one team to another?"),)),
    Talk(
        hours=1.6,
        was_seen=False,
        said=(
            (THEY, "My report says “0 results” since this morning. Yesterday it was fine."),
            (THEY, "It is the one called Weekly numbers, if that helps."),
        ),
    ),
    Talk(
        hours=3,
        of="support",
        said=(
            (THEY, "Do you have an invoice with our VAT number on it?"),
            (WE, "<p>Yes: add the number under <b>Settings</b>, and the next invoice carries it.</p>"),
            (THEY, "Found it. Could you send last month’s again with it?"),
            (NOTE, "Finance can do that. I asked them."),
        ),
    ),
    Talk(
        hours=5,
        of="boss",
        said=(
            (THEY, "We are 40 people now. Is there a price for more than 25 seats?"),
            (WE, "<p>There is. I will put an offer together for you today.</p>"),
        ),
    ),
    Talk(
        hours=22,
        of="support",
        said=(
            (THEY, "Where did the export button go?"),
            (WE, "<p>It is in the menu with the three dots now, at the top right of every report.</p>"),
            (THEY, "I see it. Thanks!"),
        ),
        end="close",
    ),
    Talk(
        hours=27,
        said=(
            (THEY, "Can two of us edit a project at the same time?"),
            (WE, "<p>Yes, and you see each other’s changes as they happen.</p>"),
        ),
        end="close",
    ),
    Talk(
        hours=30,
        of="boss",
        said=(
            (THEY, "We would like to pay by bank transfer instead of a card."),
            (WE, "<p>We can do that for yearly plans. Shall I change yours at the end of this term?</p>"),
            (THEY, "Please. It ends next week."),
            (NOTE, "Change it when the term ends."),
        ),
        end="snooze",
    ),
    Talk(
        hours=52,
        said=((THEY, "Your page about integrations mentions a calendar. I cannot find it in the app."),),
    ),
    Talk(
        hours=75,
        of="support",
        said=(
            (THEY, "I invited a colleague and she never got the email."),
            (WE, "<p>It bounced: there is a letter too many in her address. Would you check it?</p>"),
            (THEY, "Oh! You are right. Done, she is in."),
            (WE, "<p>Wonderful. Say hello from us.</p>"),
        ),
        end="close",
    ),
    Talk(
        hours=120,
        said=((THEY, "Thank you for the dark mode. My eyes thank you too."), (WE, "<p>That made our day.</p>")),
        end="close",
    ),
)
# The answers to the chat about a first project.
TO_A_CHAT: tuple[str, ...] = (
    "Yes please, where do I begin?",
    "I only wanted to look around first. How many projects come with the trial?",
)


def fill_conversations(team: Team, *, at: datetime) -> None:
    """Create the conversations, one for each customer."""
    people = recent_users(at=at)
    for talk in TALKS:
        create_conversation(talk, next(people), team, at=at)
    for words, customer in zip(TO_A_CHAT, without_project(at=at), strict=False):
        visit.visit(customer, at=at)
        thread = Conversation.objects.filter(customer=customer, record__message__title="First project").first()
        if thread is not None:
            threads.reply_by_customer(thread, body=words, at=at)


def recent_users(*, at: datetime) -> Iterator[Customer]:
    """Yield recent visitors in a fixed random order."""
    lately = Customer.objects.filter(role=Role.USER, last_seen_at__gte=at - timedelta(days=7), has_hard_bounced=False)
    return iter(lately.filter(signed_up_at__lt=at - timedelta(days=40)).order_by("-session_count", "pk")[: len(TALKS)])


def without_project(*, at: datetime) -> Iterator[Customer]:
    """Yield new users without a project."""
    new = Customer.objects.filter(
        role=Role.USER, signed_up_at__gte=at - timedelta(days=20), signed_up_at__lt=at - timedelta(days=3)
    )
    return iter(new.exclude(event_summaries__name="created-project").order_by("pk")[: len(TO_A_CHAT)])


def create_conversation(talk: Talk, customer: Customer, team: Team, *, at: datetime) -> None:
    """Create the messages of a conversation, and set its state."""
    now = at - timedelta(hours=talk.hours)
    (_, opening), *rest = talk.said
    thread = threads.open_by_customer(customer, body=opening, at=now)
    owner: User | None = {"boss": team.boss, "support": team.support}.get(talk.of)
    for who, words in rest:
        now += timedelta(minutes=PAUSE)
        add_part(thread, who, words, by=owner or team.support, at=now)
    heard = thread.parts.filter(by_customer=True).order_by("-created_at").values_list("created_at", flat=True).first()
    Customer.objects.filter(pk=customer.pk, last_seen_at__lt=heard or thread.created_at).update(
        last_seen_at=heard or thread.created_at
    )
    if owner is not None:
        threads.assign(thread, to=owner, teammate=owner, at=now)
    if talk.end == "close":
        threads.close(thread, teammate=owner or team.support, at=now)
    if talk.end == "snooze":
        threads.snooze(thread, until=at + timedelta(days=5), teammate=owner, at=now)
    if talk.was_seen:
        threads.mark_seen(thread)
    # The customer has read all answers except the newest, which follow by email.
    if talk.hours > 12 and rest:
        threads.mark_read(thread)


def add_part(thread: Conversation, who: str, words: str, *, by: User, at: datetime) -> None:
    if who == THEY:
        threads.reply_by_customer(thread, body=words, at=at)
    elif who == WE:
        threads.reply_by_teammate(thread, teammate=by, body=words, at=at)
    else:
        threads.add_note(thread, teammate=by, body=words, at=at)
