"""The buttons of a message: set live, pause, stop and others. Each runs once and is written to the log."""

from collections.abc import Callable, Collection, Iterable
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
from messaging.models import NOT_YET_LIVE, Message, SendType, State
from outbound import roles
from outbound.console import audit
from outbound.console.admin import teammate
from outbound.console.wording import counted

# Refusals of one click that are shown in full.
MAX_ERRORS_SHOWN = 5
# Messages whose copies in hand are shown one by one.
MAX_COUNTS_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One button: its function and the words that the log uses for it."""

    do: Callable[..., str]
    logged: str
    permission: str = roles.SET_LIVE


def check_permission(request: HttpRequest, act: Act) -> None:
    """Raise PermissionDenied if the teammate lacks the act's permission, whatever buttons their page showed."""
    if not request.user.has_perm(act.permission):
        raise PermissionDenied


def log_sentence(message: Message, act: Act, *, before: str, paused_because: str) -> str:
    """Return the log entry: the act, the states before and after it, and why the message had paused itself."""
    after = message.get_state_display()
    if message.launching_at:
        return f"{act.logged}: in progress"
    if before == after:
        return act.logged
    had_paused = f". It had paused itself: {paused_because}" if paused_because else ""
    return f"{act.logged}: from {before} to {after}{had_paused}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """The size of a launch: matching people, whether that is an exact count, and the count that staff saw.

    `copies` are those that will be sent; None if they were not counted.
    """

    people: int = 0
    is_exact: bool = True
    reviewed: int | None = None
    copies: int | None = None

    @property
    def by_worker(self) -> bool:
        """Whether the launch would take longer than a request may."""
        return not self.is_exact or self.people > launch_job.LAUNCH_IN_REQUEST_LIMIT

    @property
    def reviewed_people(self) -> int:
        """Return the count that staff saw, or the current one if the page showed none."""
        return self.people if self.reviewed is None else self.reviewed


UNCOUNTED = LaunchPlan()


def set_live(message: Message, *, at: datetime, plan: LaunchPlan = UNCOUNTED, **_asked: Any) -> str:
    """Set a message live and create the records of a one-off. A worker does this for a large audience."""
    inserts = message.send_type == SendType.ONE_OFF or message.only_new_matches
    if plan.by_worker and (inserts or not plan.is_exact):
        return request_launch(message, at=at, among=NOT_YET_LIVE, reviewed=plan.reviewed_people)
    count = launch.launch(message, at=at)
    if message.send_type == SendType.ONGOING:
        transaction.on_commit(lambda: tasks.enqueue_match(message))
        return f"“{message}” is live."
    transaction.on_commit(tasks.enqueue_dispatch)
    return f"“{message}” is live and goes to {recipients_sentence(message, count, plan)}"


def request_launch(message: Message, *, at: datetime, among: Collection[State], **asked: Any) -> str:
    """Ask a worker to launch the message, if it is in one of these states."""
    launch_job.request_launch(message, at=at, among=among, **asked)
    transaction.on_commit(lambda: tasks.enqueue_launch(message))
    return f"“{message}” is going live."


def call_off(message: Message, *, at: datetime, **_asked: Any) -> str:
    """Cancel a launch that has not finished."""
    launch_job.cancel_launch(message, at=at)
    return f"The launch of “{message}” was cancelled."


def record_noun(message: Message, count: int) -> str:
    """Return a number of records with its noun: people, or people at companies."""
    one, many = ("person at a company", "people at companies") if message.per_company else ("person", "people")
    return counted(count, one, many)


def recipients_sentence(message: Message, count: int, plan: LaunchPlan) -> str:
    """Return how many of the new records are sent, and how many are left out."""
    sent = count if plan.copies is None else min(count, plan.copies)
    left_out = count - sent
    if not left_out:
        return f"{record_noun(message, sent)}."
    verb = "matches but is" if left_out == 1 else "match but are"
    return f"{record_noun(message, sent)}. {left_out:,} more {verb} left out, for the reasons below."


def try_on_a_few(message: Message, *, at: datetime, sample: int, plan: LaunchPlan = UNCOUNTED, **_asked: Any) -> str:
    """Set a one-off live for a random sample; the report then offers to send it to the rest."""
    if plan.by_worker:
        return request_launch(message, at=at, among=(State.DRAFT,), sample=sample)
    count = launch.launch(message, at=at, sample=sample)
    transaction.on_commit(tasks.enqueue_dispatch)
    return (
        f"“{message}” goes to {record_noun(message, count)} first. Send it to the rest when you have seen the results."
    )


def schedule(
    message: Message, *, at: datetime, scheduled_for: datetime, plan: LaunchPlan = UNCOUNTED, **_asked: Any
) -> str:
    """Schedule a one-off. It goes live then if about as many people match as were reviewed."""
    message_lifecycle.schedule(message, for_=scheduled_for, at=at, reviewed_count=plan.reviewed_people)
    return f"“{message}” goes live {timezone.localtime(scheduled_for):%A %-d %B %Y at %H:%M}."


def unschedule(message: Message, *, at: datetime, **_asked: Any) -> str:
    """Return a scheduled message to a draft."""
    message_lifecycle.unschedule(message)
    return f"“{message}” is a draft again."


def pause(message: Message, *, at: datetime, **_asked: Any) -> str:
    """Pause a message. Nothing is sent after this returns."""
    handed_over = lifecycle.pause(message)
    done = f"“{message}” is paused. Nothing more is sent until you resume it."
    return f"{done} {in_hand_text(handed_over)}" if handed_over else done


def in_hand_text(copies: int) -> str:
    return f"{counted(copies, 'copy was', 'copies were')} still being handed over."


def pause_each(request: HttpRequest, chosen: Iterable[Message], *, at: datetime) -> None:
    """Pause each chosen message, and say how many of their copies were still being handed over at the end."""
    paused = carry_out_each(request, chosen, ACTS["pause"], done="paused", at=at)
    copies = lifecycle.copies_in_hand(paused)
    in_hand = [message for message in paused if message.pk in copies]
    for message in in_hand[:MAX_COUNTS_SHOWN]:
        messages.info(request, f"“{message}”: {in_hand_text(copies[message.pk])}")
    if len(in_hand) > 1:
        messages.info(request, f"In total, {in_hand_text(sum(copies.values()))}")


def resume(message: Message, *, at: datetime, **_asked: Any) -> str:
    """Resume a message and recheck the waiting records of an ongoing one."""
    lifecycle.resume(message, at=at)
    transaction.on_commit(lambda: tasks.enqueue_match(message))
    transaction.on_commit(tasks.enqueue_dispatch)
    return f"“{message}” is {message.get_state_display().lower()} again."


def stop(message: Message, *, at: datetime, **_asked: Any) -> str:
    """Stop a message; it cannot be started again."""
    lifecycle.stop(message)
    return f"“{message}” is stopped. Anyone who had not received it yet will not."


def send_to_rest(message: Message, *, at: datetime, plan: LaunchPlan = UNCOUNTED, **_asked: Any) -> str:
    """Launch a sampled one-off for everyone else who matches now."""
    if plan.by_worker:
        return request_launch(message, at=at, among=(State.SAMPLED,), reviewed=plan.reviewed_people)
    count = launch.send_to_rest(message, at=at)
    transaction.on_commit(tasks.enqueue_dispatch)
    return f"“{message}” goes to the rest: {recipients_sentence(message, count, plan)}"


def duplicate(message: Message, *, at: datetime, by: User, **_asked: Any) -> str:
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
    "call-off": Act(do=call_off, logged="Cancelled the launch"),
}

DUPLICATE = Act(do=duplicate, logged="Duplicated", permission="messaging.add_message")


def carry_out_each(
    request: HttpRequest, chosen: Iterable[Message], act: Act, *, done: str, at: datetime
) -> list[Message]:
    """Perform an act on each chosen message separately and report how many succeeded and why others failed.

    Return the messages for which it succeeded.
    """
    check_permission(request, act)
    by, refused = teammate(request), []
    did: list[Message] = []
    for message in chosen:
        try:
            do_and_log(by, message, act, at=at, by=by)
        except ValidationError as error:
            refused.append(f"“{message}”: {' '.join(error.messages)}")
        else:
            did.append(message)
    if did:
        messages.success(request, f"{counted(len(did), 'message is', 'messages are')} {done}.")
    for sentence in refused[:MAX_ERRORS_SHOWN]:
        messages.error(request, sentence)
    if len(refused) > MAX_ERRORS_SHOWN:
        messages.error(request, f"{len(refused) - MAX_ERRORS_SHOWN:,} more could not be changed.")
    return did


def carry_out(request: HttpRequest, message: Message, act: Act, *, at: datetime, **asked: Any) -> bool:
    """Perform an act and log it in one transaction. If it is refused, show the reason and return False."""
    check_permission(request, act)
    try:
        text = do_and_log(teammate(request), message, act, at=at, **asked)
    except ValidationError as error:
        for sentence in error.messages:
            messages.error(request, sentence)
        return False
    messages.success(request, text)
    return True


@retried
def do_and_log(logged_as: User, message: Message, act: Act, *, at: datetime, **asked: Any) -> str:
    """Perform an act, log it under a teammate or an integration, and return the text for the teammate."""
    before, because = message.get_state_display(), message.paused_because
    text = act.do(message, at=at, **asked)
    audit.log_change(logged_as, message, log_sentence(message, act, before=before, paused_because=because))
    return text
