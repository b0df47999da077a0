"""What staff do to a message with a button: by POST, once however often it is clicked, and written into the log."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from audiences.transactions import retried
from delivery import tasks
from delivery.matching import launch, launch_job, lifecycle
from messaging import duplication
from messaging import lifecycle as message_lifecycle
from messaging.models import Message, SendType
from outbound import roles
from outbound.console.admin import ConsoleAdmin, teammate
from outbound.console.wording import counted

# How many refusals of one click are spelt out.
MOST_SAID = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One button: what it does, what the log and the page say afterwards."""

    do: Callable[..., str]
    logged: str
    permission: str = roles.SET_LIVE


def may(request: HttpRequest, act: Act) -> None:
    """Refuse who may not do this, whatever buttons their page had."""
    if not request.user.has_perm(act.permission):
        raise PermissionDenied


def log_sentence(message: Message, act: Act, *, before: str) -> str:
    """What the log says: the act, and the state it led from and to."""
    after = message.get_state_display()
    if message.launching_at:
        return f"{act.logged}: on its way"
    return act.logged if before == after else f"{act.logged}: from {before} to {after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """Whom it goes to, as far as a click has looked: how many match, whether they were counted, and what staff saw."""

    people: int = 0
    is_exact: bool = True
    reviewed: int | None = None

    @property
    def by_worker(self) -> bool:
        """Whether it takes longer than a request may."""
        return not self.is_exact or self.people > launch_job.LAUNCH_IN_REQUEST_LIMIT

    @property
    def seen(self) -> int:
        """How many staff saw, or would have seen."""
        return self.people if self.reviewed is None else self.reviewed


NOBODY_COUNTED = LaunchPlan()


def set_live(message: Message, *, at: datetime, going: LaunchPlan = NOBODY_COUNTED, **_asked: Any) -> str:
    """Go live; the people of a one-off are frozen, a great many by a worker."""
    if going.by_worker and (message.send_type == SendType.ONE_OFF or not going.is_exact):
        return ask_for(message, at=at, reviewed=going.seen)
    made = launch.launch(message, at=at)
    if message.send_type == SendType.ONGOING:
        transaction.on_commit(lambda: tasks.enqueue_match(message))
        return f"“{message}” is live."
    transaction.on_commit(tasks.enqueue_dispatch)
    return f"“{message}” is live, for {record_noun(message, made)} who matched."


def ask_for(message: Message, *, at: datetime, sample: int | None = None, reviewed: int | None = None) -> str:
    """Have a worker launch it."""
    launch_job.request_launch(message, at=at, sample=sample, reviewed=reviewed)
    transaction.on_commit(lambda: tasks.enqueue_launch(message))
    return f"“{message}” is going live."


def call_off(message: Message, *, at: datetime, **_asked: Any) -> str:
    """Take back a launch that is not done yet."""
    launch_job.cancel_launch(message, at=at)
    return f"“{message}” is not going live."


def record_noun(message: Message, made: int) -> str:
    """How many the records are of: people, or people at companies."""
    one, many = ("person at a company", "people at companies") if message.per_company else ("person", "people")
    return counted(made, one, many)


def try_on_a_few(
    message: Message, *, at: datetime, sample: int, going: LaunchPlan = NOBODY_COUNTED, **_asked: Any
) -> str:
    """Go live for some drawn at random; the rest is a button of the report."""
    if going.by_worker:
        return ask_for(message, at=at, sample=sample)
    made = launch.launch(message, at=at, sample=sample)
    transaction.on_commit(tasks.enqueue_dispatch)
    return (
        f"“{message}” goes to {record_noun(message, made)} first. Send it to the rest once you have seen how it does."
    )


def schedule(
    message: Message, *, at: datetime, scheduled_for: datetime, going: LaunchPlan = NOBODY_COUNTED, **_asked: Any
) -> str:
    """Go live by itself at a time to come, if about as many match then."""
    message_lifecycle.schedule(message, for_=scheduled_for, at=at, reviewed_count=going.seen)
    return f"“{message}” goes live {timezone.localtime(scheduled_for):%A %-d %B %Y at %H:%M}."


def unschedule(message: Message, *, at: datetime, **_asked: Any) -> str:
    """Back to a draft."""
    message_lifecycle.unschedule(message)
    return f"“{message}” is a draft again."


def pause(message: Message, *, at: datetime, **_asked: Any) -> str:
    """Hold everything, from the moment this returns."""
    lifecycle.pause(message)
    return f"“{message}” is paused. Nothing more goes out until you resume it."


def resume(message: Message, *, at: datetime, **_asked: Any) -> str:
    """Go on; what an ongoing one held is judged again."""
    message_lifecycle.resume(message, at=at)
    transaction.on_commit(lambda: tasks.enqueue_match(message))
    transaction.on_commit(tasks.enqueue_dispatch)
    return f"“{message}” is {message.get_state_display().lower()} again."


def stop(message: Message, *, at: datetime, **_asked: Any) -> str:
    """End it for good."""
    lifecycle.stop(message)
    return f"“{message}” is stopped for good. Whoever had not got it yet will not."


def send_to_rest(message: Message, *, at: datetime, going: LaunchPlan = NOBODY_COUNTED, **_asked: Any) -> str:
    """Launch a sampled one-off for everybody else who matches now."""
    if going.by_worker:
        return ask_for(message, at=at, reviewed=going.seen)
    made = launch.send_to_rest(message, at=at)
    transaction.on_commit(tasks.enqueue_dispatch)
    return f"“{message}” goes to the rest: {record_noun(message, made)} more."


def duplicate(message: Message, *, at: datetime, by: User, **_asked: Any) -> str:
    """Make a draft of the same content and filters."""
    copy = duplication.duplicate(message, by=by, at=at)
    return f"“{copy}” is a new draft."


AFTER_SAVING: dict[str, Act] = {
    "live": Act(do=set_live, logged="Set live"),
    "sample": Act(do=try_on_a_few, logged="Tried it on a few first"),
    "schedule": Act(do=schedule, logged="Scheduled"),
}
ACTS: dict[str, Act] = {
    "live": AFTER_SAVING["live"],
    "unschedule": Act(do=unschedule, logged="Cancelled the schedule"),
    "pause": Act(do=pause, logged="Paused"),
    "resume": Act(do=resume, logged="Resumed"),
    "stop": Act(do=stop, logged="Stopped"),
    "rest": Act(do=send_to_rest, logged="Sent to the rest"),
    "call-off": Act(do=call_off, logged="Called off going live"),
}

DUPLICATE = Act(do=duplicate, logged="Duplicated", permission="messaging.add_message")


def carry_out_each(
    admin: ConsoleAdmin, request: HttpRequest, chosen: Iterable[Message], act: Act, *, done: str, at: datetime
) -> None:
    """Do it to each one that it can be done to, each by itself, and say how many there were and why others were not."""
    may(request, act)
    by, did, refused = teammate(request), 0, []
    for message in chosen:
        try:
            do_and_log(admin, request, message, act, at=at, by=by)
        except ValidationError as no:
            refused.append(f"“{message}”: {' '.join(no.messages)}")
        else:
            did += 1
    if did:
        messages.success(request, f"{counted(did, 'message is', 'messages are')} {done}.")
    for sentence in refused[:MOST_SAID]:
        messages.error(request, sentence)
    if len(refused) > MOST_SAID:
        messages.error(request, f"And {len(refused) - MOST_SAID:,} more were left as they are.")


def carry_out(
    admin: ConsoleAdmin, request: HttpRequest, message: Message, act: Act, *, at: datetime, **asked: Any
) -> bool:
    """Do it and log it together; where it cannot be done, say why and change nothing."""
    may(request, act)
    try:
        said = do_and_log(admin, request, message, act, at=at, **asked)
    except ValidationError as no:
        for sentence in no.messages:
            messages.error(request, sentence)
        return False
    messages.success(request, said)
    return True


@retried
def do_and_log(
    admin: ConsoleAdmin, request: HttpRequest, message: Message, act: Act, *, at: datetime, **asked: Any
) -> str:
    """Do it and log it together; return what to tell the teammate."""
    before = message.get_state_display()
    said = act.do(message, at=at, **asked)
    admin.note(request, message, log_sentence(message, act, before=before))
    return said
