"""Message: columns, querysets and properties (behaviour 3). `lifecycle` and `authoring` change it."""

from datetime import datetime
from typing import Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models

from audiences.models import Audience, MessageTopic, Workspace
from messaging import content, delivery_window
from messaging.models.choices import Channel, Checking, Format, SendType, Style, WindowZone
from messaging.models.constraints import CONSTRAINTS, TRIGGERS
from messaging.models.sender import Sender
from messaging.models.states import RUNNING, State
from messaging.models.version import MessageVersion

# Fields that a concurrent request may have changed since the row was loaded. Cached relations are loaded again too.
CHANGED_BY_OTHERS = ("state", "went_live_at", "per_company", "audience", "version", "paused_because", "counted_from")


class MessageQuerySet(models.QuerySet["Message"]):
    def live(self) -> Self:
        """Return the messages that match and send now: live or sampled."""
        return self.filter(state__in=RUNNING)

    def ongoing(self) -> Self:
        return self.filter(send_type=SendType.ONGOING)

    def one_off(self) -> Self:
        return self.filter(send_type=SendType.ONE_OFF)

    def to_audiences(self) -> Self:
        """Return the messages of the Outbound tabs: all except direct messages (behaviour 4.12)."""
        return self.filter(to_customer=None)

    def to_one_person(self) -> Self:
        """Return the direct messages."""
        return self.exclude(to_customer=None)


class Message(models.Model):
    """A message that staff compose. Channel, send type and per-company are locked once it has been live."""

    LOCKED_ONCE_LIVE = (
        "channel",
        "send_type",
        "per_company",
        "to_customer",
        "to_company",
        "audience",
        "only_new_matches",
        "topic",
    )

    title = models.CharField(max_length=200)
    channel = models.CharField(max_length=8, choices=Channel, default=Channel.EMAIL)
    format = models.CharField(max_length=16, choices=Format, blank=True, default="")
    style = models.CharField(max_length=16, choices=Style, default=Style.PLAIN, db_default=Style.PLAIN)
    send_type = models.CharField(max_length=8, choices=SendType, default=SendType.ONGOING)
    sender = models.ForeignKey(Sender, null=True, blank=True, on_delete=models.PROTECT)
    # Null for a direct message.
    audience = models.OneToOneField(Audience, null=True, blank=True, on_delete=models.PROTECT)
    to_customer = models.ForeignKey(
        "audiences.Customer", null=True, blank=True, on_delete=models.PROTECT, related_name="messages_to_them"
    )
    to_company = models.ForeignKey("audiences.Company", null=True, blank=True, on_delete=models.PROTECT)
    # Customers who opted out of it do not get the message. Links of its copies unsubscribe from it (behaviour 4.28).
    topic = models.ForeignKey(MessageTopic, null=True, blank=True, on_delete=models.PROTECT, related_name="messages")
    window = models.JSONField(default=list, blank=True)
    window_zone = models.CharField(max_length=16, choices=WindowZone, default=WindowZone.WORKSPACE)
    during_quiet_hours = models.BooleanField(
        "also during quiet hours",
        default=False,
        db_default=False,
        help_text="For urgent messages: the workspace’s quiet hours do not hold this one back.",
    )
    checking = models.CharField(max_length=8, choices=Checking, default=Checking.HOURLY, db_default=Checking.HOURLY)
    per_company = models.BooleanField(default=False, editable=False)
    # Of an ongoing message (behaviour 4.21): people who match when it goes live are left out, for good.
    only_new_matches = models.BooleanField(
        "only people who start to match after it goes live",
        default=False,
        db_default=False,
        help_text="People who match now are left out, also if they stop and start to match again.",
    )
    # Of an in-app message to an audience (behaviour 4.5).
    shown_until = models.DateTimeField("stop showing on", null=True, blank=True)
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
    # Recipients shown to the author at review. A scheduled launch compares it with the recipients at launch.
    # Null before the first review.
    reviewed_count = models.PositiveIntegerField(null=True, blank=True, editable=False)
    # Recipients inserted when a one-off was frozen. Null if the message has no frozen audience.
    audience_count = models.PositiveIntegerField(null=True, blank=True, editable=False)
    # Set while a worker launches the message or sends it to the rest. The state changes only at the end.
    launching_at = models.DateTimeField(null=True, blank=True, editable=False)
    launching_sample = models.PositiveIntegerField(null=True, blank=True, editable=False)
    # Customers drawn for the first launch ("Try it on a few first"). Null if it was launched to all recipients.
    sample_size = models.PositiveIntegerField(null=True, blank=True, editable=False)
    rest_sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Set on resume: records matched before this moment wait until they are rechecked (behaviour 4.9).
    recheck_before = models.DateTimeField(null=True, blank=True, editable=False)
    last_matched_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Why the last matching round, launch or batch failed; the console and an alarm show it. Empty if it succeeded.
    problem = models.TextField(blank=True, default="", editable=False)
    # Why the message paused itself (behaviour 4.25). Empty unless it did, and a teammate has not decided yet.
    paused_because = models.TextField(blank=True, default="", db_default="", editable=False)
    # The counts when a teammate resumed it after that: later ones are judged without these. Empty before.
    counted_from = models.JSONField(blank=True, default=dict, db_default={}, editable=False)
    tags = models.ManyToManyField("audiences.Tag", blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        # Used by outbound.roles, besides Django's own permissions to add and change.
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

    def __str__(self) -> str:
        return self.title

    @property
    def is_locked(self) -> bool:
        """Whether the message has ever been live."""
        return self.went_live_at is not None

    @property
    def is_matched_by_rounds(self) -> bool:
        """Whether rounds check the filters, and not only a launch or visits."""
        return self.send_type == SendType.ONGOING and self.channel != Channel.IN_APP

    def has_ended(self, *, at: datetime) -> bool:
        """Whether the time for which an in-app message is shown is over."""
        return self.shown_until is not None and self.shown_until <= at

    @property
    def parsed_window(self) -> delivery_window.Window:
        return delivery_window.parse_window(self.window)

    @property
    def keeps_quiet_hours(self) -> bool:
        """Whether the workspace’s quiet hours hold it back: emails and pushes to an audience, unless it is urgent."""
        return self.channel != Channel.IN_APP and self.to_customer_id is None and not self.during_quiet_hours

    def open_window(self, quiet: delivery_window.QuietHours | None) -> delivery_window.Window:
        """Return the window in which it may be delivered: its delivery times, without quiet hours if it keeps them."""
        window = self.parsed_window
        return delivery_window.without_quiet_hours(window, quiet) if quiet and self.keeps_quiet_hours else window

    def lock_row(self) -> None:
        """Lock the row until the transaction ends, and reload CHANGED_BY_OTHERS."""
        # no_key: other transactions can still insert delivery records that refer to this row.
        now = type(self).objects.select_for_update(no_key=True)
        self.refresh_from_db(fields=CHANGED_BY_OTHERS, from_queryset=now)

    def clean(self) -> None:
        """Validate the delivery window and set the format that fits the channel."""
        try:
            self.window = self.parsed_window.as_json()
        except delivery_window.WindowError as wrong:
            raise ValidationError({"window": str(wrong)}) from wrong
        if self.channel != Channel.IN_APP:
            self.format, self.shown_until = "", None
        elif not self.format:
            self.format = Format.CHAT

    @property
    def layout(self) -> dict[str, str]:
        """Email layout for a version written now: the style, and the workspace's name, logo, colour and address.

        Empty for other channels and for direct messages.
        """
        if self.channel != Channel.EMAIL or self.to_customer_id:
            return {}
        if self.style == Style.PLAIN:
            return {"style": Style.PLAIN.value}
        workspace = Workspace.current()
        return {
            "style": Style.BRANDED.value,
            "name": workspace.name,
            "logo": workspace.logo,
            "colour": workspace.colour,
            "address": workspace.postal_address,
        }

    @property
    def goes_per_company(self) -> bool:
        """Whether the message is sent once for each company. For a draft, decided by its current content."""
        if self.is_locked or self.version is None or self.to_customer_id:
            return self.per_company
        try:
            return content.uses_company(self.version.subject, self.version.body, self.version.link)
        except content.ContentError:
            # A half-written draft; it cannot go live.
            return False
