"""One message and its life: draft <-> scheduled -> live <-> paused -> stopped (DESIGN 3, 4.2, 4.9).

Over 120 lines because the life cycle is one thing: its states, its lock and the methods that move it.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, Self

import pgtrigger
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import models, transaction

from audiences import compiler
from audiences.models import Audience, CustomAttribute, Workspace
from audiences.rules import RuleError
from messaging import content, windows
from messaging.models.sender import Sender
from messaging.models.version import MessageVersion


class Channel(models.TextChoices):
    """How a message reaches a customer; each has a module in delivery.channels."""

    EMAIL = "email", "Email"
    IN_APP = "in_app", "In-app"
    PUSH = "push", "Mobile push"


class Format(models.TextChoices):
    """What an in-app message looks like."""

    CHAT = "chat", "Chat"
    ANNOUNCEMENT = "announcement", "Announcement"


class Style(models.TextChoices):
    """What an email looks like."""

    PLAIN = "plain", "Plain"
    BRANDED = "branded", "Branded"


class SendType(models.TextChoices):
    """The two ways to send of the seed article."""

    ONGOING = "ongoing", "Ongoing"
    ONE_OFF = "one_off", "One-off"


class State(models.TextChoices):
    """Where a message is in its life."""

    DRAFT = "draft", "Draft"
    SCHEDULED = "scheduled", "Scheduled"
    LIVE = "live", "Live"
    PAUSED = "paused", "Paused"
    SAMPLED = "sampled", "Sampled"  # A few have it; "Send to the rest" is still to come.
    STOPPED = "stopped", "Stopped"
    SENT = "sent", "Sent"


class WindowZone(models.TextChoices):
    """Whose clock the delivery window goes by."""

    WORKSPACE = "workspace", "The workspace's time zone"
    CUSTOMER = "customer", "Each customer's time zone"


NEXT: dict[State, tuple[State, ...]] = {
    State.DRAFT: (State.SCHEDULED, State.LIVE, State.SAMPLED),
    State.SCHEDULED: (State.DRAFT, State.LIVE),
    State.LIVE: (State.PAUSED, State.STOPPED, State.SENT),
    State.SAMPLED: (State.LIVE, State.PAUSED, State.STOPPED),
    State.PAUSED: (State.LIVE, State.SAMPLED, State.STOPPED),
    State.STOPPED: (),
    State.SENT: (),
}
NOT_YET_LIVE = (State.DRAFT, State.SCHEDULED)
RUNNING = (State.LIVE, State.SAMPLED)


class Locked(ValidationError):
    """Once live, this can no longer be changed."""


class WrongState(ValidationError):
    """A message in this state cannot do that."""


class NotReady(ValidationError):
    """Something is missing before the message can go live; `messages` says what, a sentence each."""


class MessageQuerySet(models.QuerySet["Message"]):
    """Questions about messages."""

    def live(self) -> Self:
        """Those that match or hand over right now."""
        return self.filter(state__in=RUNNING)

    def ongoing(self) -> Self:
        """Those that go to whoever comes to match."""
        return self.filter(send_type=SendType.ONGOING)

    def one_off(self) -> Self:
        """Those that go only to who matches when they go live."""
        return self.filter(send_type=SendType.ONE_OFF)

    def to_audiences(self) -> Self:
        """Those of the Outbound tabs: not to one person (DESIGN 4.12)."""
        return self.filter(to_customer=None)

    def to_one_person(self) -> Self:
        """Those written to one customer."""
        return self.exclude(to_customer=None)


def transitions_sql() -> str:
    """The table of states as the trigger reads it."""
    allowed = [f"('{before}', '{after}')" for before, afters in NEXT.items() for after in afters]
    return ", ".join(allowed)


class Message(models.Model):
    """What staff compose. Its channel, send type and per-company are locked once it has been live, for good."""

    LOCKED_ONCE_LIVE = ("channel", "send_type", "per_company", "to_customer", "to_company", "audience")

    title = models.CharField(max_length=200)
    channel = models.CharField(max_length=8, choices=Channel, default=Channel.EMAIL)
    format = models.CharField(max_length=16, choices=Format, blank=True, default="")
    style = models.CharField(max_length=16, choices=Style, default=Style.PLAIN, db_default=Style.PLAIN)
    send_type = models.CharField(max_length=8, choices=SendType, default=SendType.ONGOING)
    sender = models.ForeignKey(Sender, null=True, blank=True, on_delete=models.PROTECT)
    # Null for a message to one person, which has no audience.
    audience = models.OneToOneField(Audience, null=True, blank=True, on_delete=models.PROTECT)
    to_customer = models.ForeignKey(
        "audiences.Customer", null=True, blank=True, on_delete=models.PROTECT, related_name="messages_to_them"
    )
    to_company = models.ForeignKey("audiences.Company", null=True, blank=True, on_delete=models.PROTECT)
    window = models.JSONField(default=list, blank=True)
    window_zone = models.CharField(max_length=16, choices=WindowZone, default=WindowZone.WORKSPACE)
    per_company = models.BooleanField(default=False, editable=False)
    same_inbox_once = models.BooleanField(
        "one copy to each inbox",
        default=True,
        db_default=True,
        help_text="Customers who share an email address get one copy between them.",
    )
    version = models.ForeignKey(MessageVersion, null=True, editable=False, on_delete=models.PROTECT, related_name="+")

    state = models.CharField(max_length=16, choices=State, default=State.DRAFT)
    went_live_at = models.DateTimeField(null=True, blank=True, editable=False)
    scheduled_for = models.DateTimeField(null=True, blank=True)
    # How many the author saw at the review, for the drift check of a scheduled one-off; null before any review.
    reviewed_count = models.PositiveIntegerField(null=True, blank=True, editable=False)
    # How many a one-off was frozen for, counted as they were written down; null where it has no frozen audience.
    audience_count = models.PositiveIntegerField(null=True, blank=True, editable=False)
    # While set, a worker is setting it live or sending it to the rest; until that is done it is what it was.
    launching_at = models.DateTimeField(null=True, blank=True, editable=False)
    launching_sample = models.PositiveIntegerField(null=True, blank=True, editable=False)
    # Customers drawn for the first launch, "Try it on a few first"; null where everybody was meant.
    sample_size = models.PositiveIntegerField(null=True, blank=True, editable=False)
    rest_sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    # While set, what was matched before this moment is held until it has been judged again (resumed, DESIGN 4.9).
    rejudge_before = models.DateTimeField(null=True, blank=True, editable=False)
    last_matched_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Why a round or a scheduled launch could not run, for the alarm; empty when all is well.
    trouble = models.TextField(blank=True, default="", editable=False)
    tags = models.ManyToManyField("audiences.Tag", blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        # What roles are told apart by (outbound.roles): composing is Django's own add and change.
        permissions = [
            ("set_live", "Can set live, pause, resume and stop messages"),
            ("write_to_one", "Can send a message to one person"),
        ]
        constraints = [
            models.CheckConstraint(
                name="live_since_it_went_live",
                condition=models.Q(state__in=NOT_YET_LIVE, went_live_at=None)
                | (~models.Q(state__in=NOT_YET_LIVE) & models.Q(went_live_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="format_is_for_in_app",
                condition=(models.Q(channel=Channel.IN_APP) & models.Q(format__in=Format.values))
                | (~models.Q(channel=Channel.IN_APP) & models.Q(format="")),
                violation_error_message="An in-app message is a chat or an announcement; no other has a format.",
            ),
            models.CheckConstraint(
                name="one_person_or_an_audience",
                condition=models.Q(to_customer=None, audience__isnull=False)
                | models.Q(to_customer__isnull=False, audience=None, send_type=SendType.ONE_OFF, per_company=False),
            ),
            models.CheckConstraint(
                name="only_one_off_is_scheduled_or_sampled",
                condition=models.Q(send_type=SendType.ONE_OFF)
                | (~models.Q(state__in=(State.SCHEDULED, State.SAMPLED, State.SENT)) & models.Q(sample_size=None)),
            ),
            models.CheckConstraint(
                name="scheduled_for_a_time",
                condition=~models.Q(state=State.SCHEDULED) | models.Q(scheduled_for__isnull=False),
            ),
            models.CheckConstraint(name="state_is_known", condition=models.Q(state__in=State.values)),
            models.CheckConstraint(name="channel_is_known", condition=models.Q(channel__in=Channel.values)),
            models.CheckConstraint(name="send_type_is_known", condition=models.Q(send_type__in=SendType.values)),
        ]
        indexes = [
            models.Index(
                name="message_running", fields=("channel", "send_type"), condition=models.Q(state__in=RUNNING)
            ),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="locked_once_live",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition("OLD.went_live_at IS NOT NULL"),
                func="""
                IF NEW.channel <> OLD.channel OR NEW.send_type <> OLD.send_type OR NEW.per_company <> OLD.per_company
                    OR (NEW.to_customer_id IS DISTINCT FROM OLD.to_customer_id
                        AND coalesce(current_setting('outbound.merging', true), '') <> 'on')
                    OR NEW.to_company_id IS DISTINCT FROM OLD.to_company_id
                    OR NEW.audience_id IS DISTINCT FROM OLD.audience_id THEN
                    RAISE EXCEPTION 'This message has been live. How it sends can no longer be changed.'
                        USING ERRCODE = 'check_violation';
                END IF;
                IF NEW.went_live_at IS DISTINCT FROM OLD.went_live_at THEN
                    RAISE EXCEPTION 'When a message went live cannot be changed.' USING ERRCODE = 'check_violation';
                END IF;
                RETURN NEW;
                """,
            ),
            pgtrigger.Trigger(
                name="states_follow_each_other",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition("OLD.state <> NEW.state"),
                func=f"""
                IF (OLD.state, NEW.state) NOT IN (VALUES {transitions_sql()}) THEN
                    RAISE EXCEPTION 'A message cannot go from % to %.', OLD.state, NEW.state
                        USING ERRCODE = 'check_violation';
                END IF;
                RETURN NEW;
                """,
            ),
            pgtrigger.Trigger(
                name="kept_once_live",
                when=pgtrigger.Before,
                operation=pgtrigger.Delete,
                condition=pgtrigger.Condition("OLD.went_live_at IS NOT NULL"),
                func="""
                RAISE EXCEPTION 'This message has been live. It can be stopped, not deleted.'
                    USING ERRCODE = 'check_violation';
                """,
            ),
            pgtrigger.Trigger(
                name="what_visits_judge_changed",
                when=pgtrigger.After,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition(
                    "NEW.to_customer_id IS NULL"
                    " AND (OLD.state IN ('live', 'sampled') OR NEW.state IN ('live', 'sampled'))"
                    " AND (OLD.state, OLD.version_id, OLD.window, OLD.window_zone)"
                    " IS DISTINCT FROM (NEW.state, NEW.version_id, NEW.window, NEW.window_zone)"
                ),
                func="""
                UPDATE audiences_workspace SET generation = generation + 1;
                RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_locked(self) -> bool:
        """Whether it has ever been live."""
        return self.went_live_at is not None

    @property
    def parsed_window(self) -> windows.Window:
        """When it may be delivered."""
        return windows.parse(self.window)

    def clean(self) -> None:
        """Refuse a window that makes no sense."""
        try:
            self.window = self.parsed_window.as_json()
        except windows.WindowError as wrong:
            raise ValidationError({"window": str(wrong)}) from wrong
        if self.channel != Channel.IN_APP:
            self.format = ""
        elif not self.format:
            self.format = Format.CHAT

    # What it says

    @property
    def dress(self) -> dict[str, str]:
        """What a version written now wears: the workspace's name, logo, colour and address where it is branded."""
        if self.channel != Channel.EMAIL or self.to_customer_id:
            return {}
        if self.style == Style.PLAIN:
            return {"style": Style.PLAIN.value}
        ours = Workspace.current()
        worn = {"name": ours.name, "logo": ours.logo, "colour": ours.colour, "address": ours.postal_address}
        return {"style": Style.BRANDED.value, **worn}

    def content_problems(self, *, subject: str, body: str) -> dict[str, list[str]]:
        """What is wrong with a subject and a body, by field, each with its line and the reason."""
        catalogue = CustomAttribute.objects.catalogue()
        found = {}
        for name, text in (("subject", subject), ("body", body)):
            problems = content.check(
                text, custom_attributes=catalogue.customer.keys(), company_attributes=catalogue.company.keys()
            )
            if problems:
                found[name] = [str(problem) for problem in problems]
        if "\n" in subject or "\r" in subject:
            found.setdefault("subject", []).append("The subject is one line.")
        if found or not self.is_locked or self.to_customer_id:
            return found
        if self.per_company != content.uses_company(subject, body):
            first_or_last = "remove the last" if self.per_company else "add the first"
            found.setdefault("body", []).append(
                f"This would {first_or_last} company variable, and so change how often a message that has been live"
                " is sent. Duplicate it instead."
            )
        return found

    def revise(self, *, subject: str, body: str, by: User | None, at: datetime) -> MessageVersion:
        """Change what it says: in place in a draft, as a new version once live. ValidationError by field."""
        try:
            body = content.sanitise(body)
        except content.ContentError as wrong:
            raise ValidationError({"body": f"Line {wrong.line}: {wrong}"}) from wrong
        if problems := self.content_problems(subject=subject, body=body):
            raise ValidationError(problems)
        current = self.version
        dressed_alike = current is not None and (not self.is_locked or current.dress == self.dress)
        if current and dressed_alike and (current.subject, current.body) == (subject, body):
            return current
        if current and not self.is_locked:
            current.subject, current.body, current.author, current.created_at = subject, body, by, at
            current.save()
            return current
        return self.add_version(subject=subject, body=body, by=by, at=at)

    def add_version(self, *, subject: str, body: str, by: User | None, at: datetime) -> MessageVersion:
        """Log a version and make it the current one."""
        with transaction.atomic():
            numbers = Message.objects.select_for_update().get(pk=self.pk).versions
            last = numbers.aggregate(last=models.Max("number"))["last"] or 0
            self.version = numbers.create(
                number=last + 1,
                subject=subject,
                body=body,
                dress=self.dress if self.is_locked else {},
                rules=self.audience.rules if self.audience else {},
                author=by,
                created_at=at,
            )
            Message.objects.filter(pk=self.pk).update(version=self.version, updated_at=at)
        return self.version

    # Whom it asks for

    def ask_for(self, rules: object, *, by: User | None, at: datetime) -> None:
        """Change whom it goes to: freely in a draft; once live an ongoing one's, while paused, as a logged version."""
        if self.audience is None:
            raise Locked("A message to one person has no audience.")
        if self.is_locked and self.send_type == SendType.ONE_OFF:
            raise Locked("This one-off has been live. Whom it goes to can no longer be changed.")
        if self.is_locked and self.state != State.PAUSED:
            raise Locked("Pause this message to change whom it goes to.")
        with transaction.atomic():
            self.audience.rules = rules
            self.audience.save()
            if self.is_locked and self.version:
                self.audience.rules = compiler.freeze(
                    self.audience.tree, on=at.astimezone(Workspace.current().tz)
                ).as_json()
                self.audience.save()
                self.add_version(subject=self.version.subject, body=self.version.body, by=by, at=at)

    # Copies and drafts

    def make_ongoing(self, *, by: User | None, at: datetime) -> "Message":
        """Return a draft of an ongoing message that says the same to who matches and did not get this one."""
        if self.sample_size is None:
            raise WrongState("Only what was tried on a few first can be made ongoing.")
        rules = self.audience.rules if self.audience else {}
        left_out = {"attribute": "got_message", "operator": "is_not", "value": self.pk}
        if rules.get("match", "all") == "all":
            rules = {"match": "all", "rules": [*rules.get("rules", []), left_out]}
        else:
            rules = {"match": "all", "rules": [rules, left_out]}
        with transaction.atomic():
            copy = self.duplicate(by=by, at=at, send_type=SendType.ONGOING, title=self.title)
            copy.ask_for(rules, by=by, at=at)
        return copy

    def duplicate(
        self, *, by: User | None, at: datetime, send_type: SendType | None = None, title: str = ""
    ) -> "Message":
        """Return a new draft with the same content, sender, filters and window."""
        if self.audience is None:
            raise WrongState("A message to one person cannot be duplicated. Write to them again instead.")
        with transaction.atomic():
            copy = Message.objects.create(
                title=title or f"{self.title[:192]} (copy)",
                channel=self.channel,
                format=self.format,
                style=self.style,
                send_type=send_type or self.send_type,
                sender=self.sender,
                audience=Audience.objects.create(rules=self.audience.rules),
                window=self.window,
                window_zone=self.window_zone,
                same_inbox_once=self.same_inbox_once,
                created_by=by,
            )
            copy.tags.set(self.tags.all())
            if self.version:
                copy.add_version(subject=self.version.subject, body=self.version.body, by=by, at=at)
        return copy

    def discard(self) -> None:
        """Delete a draft, its versions and its audience."""
        with transaction.atomic():
            # The version it points at would protect itself from going with it.
            found = Message.objects.filter(pk=self.pk, state=State.DRAFT, went_live_at=None).update(version=None)
            if not found:
                raise WrongState("Only a draft can be deleted.")
            Message.objects.get(pk=self.pk).delete()
            if self.audience:
                self.audience.delete()

    # Its life

    def problems(self) -> list[str]:
        """What blocks going live, a sentence each."""
        found = []
        version = self.version
        if version is None or not version.body.strip():
            found.append("The message has no text yet.")
        if version and self.channel == Channel.EMAIL and not version.subject.strip():
            found.append("An email needs a subject.")
        if self.sender is None:
            found.append("Choose who the message is from.")
        if version:
            for lines in self.content_problems(subject=version.subject, body=version.body).values():
                found.extend(lines)
            if self.to_customer_id and not self.to_company_id and content.uses_company(version.subject, version.body):
                found.append("The text uses a company variable: choose which company it is about.")
        if self.audience:
            try:
                compiler.compile_tree(self.audience.tree)
            except RuleError as wrong:
                found.append(str(wrong))
        return found

    @property
    def goes_per_company(self) -> bool:
        """Whether it goes once for each company: while a draft, as its content says now."""
        if self.is_locked or self.version is None or self.to_customer_id:
            return self.per_company
        return content.uses_company(self.version.subject, self.version.body)

    def set_live(self, *, at: datetime, sample: int | None = None, before: Callable[[], object] = lambda: None) -> None:
        """Go live: lock how it sends, freeze its segments. NotReady says what is missing, WrongState why not now.

        `before` runs in the same transaction once the rules are frozen and before the state changes, so that the
        row all visits read is held only for the last moment of a large launch.
        """
        if problems := self.problems():
            raise NotReady(problems)
        if sample is not None and (self.send_type != SendType.ONE_OFF or self.to_customer_id or sample < 1):
            raise NotReady("Only a one-off to an audience can be tried on a few first.")
        with transaction.atomic():
            state = Message.objects.select_for_update().values_list("state", flat=True).get(pk=self.pk)
            among = NOT_YET_LIVE if sample is None else (State.DRAFT,)
            if state not in among:
                raise WrongState("Only a draft or a scheduled message can be set live.")
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

    def freeze_audience(self, *, at: datetime) -> None:
        """Copy the segments its rules name into them, and log the rules in the version that goes live."""
        if self.audience is None or self.version is None:
            return
        tree = compiler.freeze(self.audience.tree, on=at.astimezone(Workspace.current().tz))
        self.audience.rules = self.version.rules = tree.as_json()
        self.version.dress = self.dress
        self.audience.save()
        self.version.save()

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
