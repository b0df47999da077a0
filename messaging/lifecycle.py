"""Lifecycle of a message: draft <-> scheduled -> live <-> paused -> stopped (behaviour 4.9).

Each change of state is one UPDATE, so only one of two concurrent callers succeeds. Raise WrongState if the current
state does not allow the transition, NotReady if the message is incomplete.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.db import transaction

from audiences.models import Workspace
from messaging import authoring
from messaging.models import NOT_YET_LIVE, RUNNING, Message, NotReady, SendType, State, WrongState

NO_REST = "Only a sampled message has a rest to send to."


def prepare_launch(message: Message, *, at: datetime, sample: int | None = None) -> None:
    """Lock the row, check that the message can go live and freeze its segments. Call it inside a transaction.

    The state changes only in `mark_live`, so that a large launch blocks visits, which read the row, only at its end.
    """
    message.lock_row()
    if message.state not in launchable_states(sample):
        raise WrongState("Only a draft or a scheduled message can be set live.")
    if problems := authoring.launch_problems_by_field(message, at=at):
        raise NotReady(problems)
    if sample is not None and (message.send_type != SendType.ONE_OFF or message.to_customer_id or sample < 1):
        raise NotReady({"send_type": "Only a one-off to an audience can be tried on a few first."})
    authoring.freeze_audience(message, at=at)


def mark_live(message: Message, *, at: datetime, sample: int | None = None) -> None:
    """Change the state of a prepared message to live, or to sampled; lock how it sends."""
    change_state(
        message,
        to=State.LIVE if sample is None else State.SAMPLED,
        among=launchable_states(sample),
        refusal="Only a draft or a scheduled message can be set live.",
        went_live_at=at,
        per_company=message.goes_per_company,
        sample_size=sample,
        scheduled_for=None,
        problem="",
    )


def set_live(message: Message, *, at: datetime, sample: int | None = None) -> None:
    """Set an ongoing message or a direct message live. Launch other one-offs with delivery.matching.launch."""
    with transaction.atomic():
        prepare_launch(message, at=at, sample=sample)
        mark_live(message, at=at, sample=sample)


def launchable_states(sample: int | None) -> Collection[State]:
    return NOT_YET_LIVE if sample is None else (State.DRAFT,)


def schedule(message: Message, *, for_: datetime, at: datetime, reviewed_count: int | None = None) -> None:
    """Schedule a one-off to go live at `for_`."""
    if problems := authoring.launch_problems_by_field(message, at=max(for_, at)):
        raise NotReady(problems)
    if for_ <= at:
        raise NotReady({"scheduled_for": "The time must be in the future."})
    if message.send_type != SendType.ONE_OFF or message.to_customer_id:
        raise NotReady({"send_type": "Only a one-off to an audience can be scheduled."})
    change_state(
        message,
        to=State.SCHEDULED,
        among=(State.DRAFT,),
        refusal="Only a draft can be scheduled.",
        scheduled_for=for_,
        reviewed_count=reviewed_count,
        problem="",
    )


def unschedule(message: Message) -> None:
    """Change a scheduled message back to a draft."""
    change_state(
        message,
        to=State.DRAFT,
        among=(State.SCHEDULED,),
        refusal="Only a scheduled message has a time to cancel.",
        scheduled_for=None,
        problem="",
    )


def pause(message: Message, *, because: str = "") -> None:
    """Stop matching, sending and showing the message until it is resumed; `because` if it pauses itself."""
    change_state(
        message, to=State.PAUSED, among=RUNNING, refusal="Only a live message can be paused.", paused_because=because
    )


def resume(message: Message, *, at: datetime, counted_from: dict[str, int] | None = None) -> None:
    """Change back to live, or to sampled if the rest is not sent yet. Have an ongoing message's records rechecked.

    `counted_from` are its counts now if they no longer count against it; None keeps the former ones.
    """
    if problem := authoring.window_problem(message, Workspace.current().quiet_hours):
        raise NotReady({"window": problem})
    sampled = message.sample_size is not None and message.rest_sent_at is None
    change_state(
        message,
        to=State.SAMPLED if sampled else State.LIVE,
        among=(State.PAUSED,),
        refusal="Only a paused message can be resumed.",
        recheck_before=at if message.send_type == SendType.ONGOING else None,
        paused_because="",
        counted_from=message.counted_from if counted_from is None else counted_from,
    )


def send_to_rest(message: Message, *, at: datetime) -> None:
    """Start the second and last launch of a sampled one-off."""
    change_state(
        message,
        to=State.LIVE,
        among=(State.SAMPLED,),
        refusal=NO_REST,
        rest_sent_at=at,
    )


def stop(message: Message) -> None:
    """End the message permanently."""
    change_state(
        message,
        to=State.STOPPED,
        among=(*RUNNING, State.PAUSED),
        refusal="Only a live or paused message can be stopped.",
        paused_because="",
    )


def change_state(message: Message, *, to: State, among: Collection[State], refusal: str, **fields: Any) -> None:
    """Change the state and other fields in one UPDATE. Raise WrongState if the state is not in `among`."""
    with transaction.atomic():
        updated = Message.objects.filter(pk=message.pk, state__in=among).update(state=to, **fields)
    if not updated:
        raise WrongState(refusal)
    message.state = to
    for name, value in fields.items():
        setattr(message, name, value)
