"""One message and its life: draft <-> scheduled -> live <-> paused -> stopped (DESIGN 3, 4.2, 4.9).

Over 120 lines because the life cycle is one thing: the row, and the methods that move it from state to state.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction

from messaging import delivery_window
from messaging.models.choices import Channel, Format, SendType
from messaging.models.constraints import CONSTRAINTS, TRIGGERS
from messaging.models.copying import Copying
from messaging.models.states import NOT_YET_LIVE, RUNNING, NotReady, State, WrongState


class Message(Copying):
    """What staff compose. Its channel, send type and per-company are locked once it has been live, for good."""

    LOCKED_ONCE_LIVE = ("channel", "send_type", "per_company", "to_customer", "to_company", "audience")

    class Meta:
        # What roles are told apart by (outbound.roles): composing is Django's own add and change.
        permissions = [
            ("set_live", "Can set live, pause, resume and stop messages"),
            ("write_to_one", "Can send a message to one person"),
        ]
        constraints = CONSTRAINTS
        indexes = [
            models.Index(
                name="message_running", fields=("channel", "send_type"), condition=models.Q(state__in=RUNNING)
            ),
        ]
        triggers = TRIGGERS

    def clean(self) -> None:
        """Refuse a window that makes no sense."""
        try:
            self.window = self.parsed_window.as_json()
        except delivery_window.WindowError as wrong:
            raise ValidationError({"window": str(wrong)}) from wrong
        if self.channel != Channel.IN_APP:
            self.format = ""
        elif not self.format:
            self.format = Format.CHAT

    def set_live(self, *, at: datetime, sample: int | None = None, before: Callable[[], object] = lambda: None) -> None:
        """Go live: lock how it sends, freeze its segments. NotReady says what is missing, WrongState why not now.

        `before` runs in the same transaction once the rules are frozen and before the state changes, so that the
        row all visits read is held only for the last moment of a large launch.
        """
        among = NOT_YET_LIVE if sample is None else (State.DRAFT,)
        with transaction.atomic():
            self.hold()
            if self.state not in among:
                raise WrongState("Only a draft or a scheduled message can be set live.")
            if problems := self.problems():
                raise NotReady(problems)
            if sample is not None and (self.send_type != SendType.ONE_OFF or self.to_customer_id or sample < 1):
                raise NotReady("Only a one-off to an audience can be tried on a few first.")
            self.freeze_audience(at=at)
            before()
            self.move(
                to=State.LIVE if sample is None else State.SAMPLED,
                among=among,
                refusal="Only a draft or a scheduled message can be set live.",
                went_live_at=at,
                per_company=self.goes_per_company,
                sample_size=sample,
                scheduled_for=None,
                trouble="",
            )

    def schedule(self, *, for_: datetime, at: datetime, reviewed_count: int | None = None) -> None:
        """Go live at a time to come; only a one-off, and back to draft until then."""
        if problems := self.problems():
            raise NotReady(problems)
        if for_ <= at:
            raise NotReady("The time must be in the future.")
        if self.send_type != SendType.ONE_OFF or self.to_customer_id:
            raise NotReady("Only a one-off to an audience can be scheduled.")
        self.move(
            to=State.SCHEDULED,
            among=(State.DRAFT,),
            refusal="Only a draft can be scheduled.",
            scheduled_for=for_,
            reviewed_count=reviewed_count,
            trouble="",
        )

    def unschedule(self) -> None:
        """Back to a draft."""
        self.move(
            to=State.DRAFT,
            among=(State.SCHEDULED,),
            refusal="Only a scheduled message has a time to cancel.",
            scheduled_for=None,
            trouble="",
        )

    def pause(self) -> None:
        """Match, hand over and show nothing new until it is resumed."""
        self.move(to=State.PAUSED, among=RUNNING, refusal="Only a live message can be paused.")

    def resume(self, *, at: datetime) -> None:
        """Live again, or sampled again where the rest is still to come; what an ongoing one held is judged again."""
        sampled = self.sample_size is not None and self.rest_sent_at is None
        self.move(
            to=State.SAMPLED if sampled else State.LIVE,
            among=(State.PAUSED,),
            refusal="Only a paused message can be resumed.",
            rejudge_before=at if self.send_type == SendType.ONGOING else None,
        )

    def send_to_rest(self, *, at: datetime) -> None:
        """Begin the second and last launch of a sampled one-off."""
        self.move(
            to=State.LIVE,
            among=(State.SAMPLED,),
            refusal="Only a sampled message has a rest to send to.",
            rest_sent_at=at,
        )

    def stop(self) -> None:
        """End it for good."""
        self.move(
            to=State.STOPPED, among=(*RUNNING, State.PAUSED), refusal="Only a live or paused message can be stopped."
        )

    def move(self, *, to: State, among: Collection[State], refusal: str, **facts: Any) -> None:
        """Change the state in one UPDATE that only one of two at once can win."""
        with transaction.atomic():
            moved = Message.objects.filter(pk=self.pk, state__in=among).update(state=to, **facts)
        if not moved:
            raise WrongState(refusal)
        self.state = to
        for name, value in facts.items():
            setattr(self, name, value)
