"""Message: columns, queries and questions (behaviour 3). `lifecycle` and `authoring` change it."""

from typing import Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models

from audiences.models import Audience, Workspace
from messaging import content, delivery_window
from messaging.models.choices import Channel, Format, SendType, Style, WindowZone
from messaging.models.constraints import CONSTRAINTS, TRIGGERS
from messaging.models.sender import Sender
from messaging.models.states import RUNNING, State
from messaging.models.version import MessageVersion

# What others may have changed since the row was read; the relations are read anew with it.
CHANGED_BY_OTHERS = ("state", "went_live_at", "per_company", "audience", "version")


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
        """Those of the Outbound tabs: not to one person (behaviour 4.12)."""
        return self.filter(to_customer=None)

    def to_one_person(self) -> Self:
        """Those written to one customer."""
        return self.exclude(to_customer=None)


class Message(models.Model):
    """A message that staff compose. Channel, send type and per-company are locked once it has been live."""

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
    # How many the author saw at the review, for the drift check of what goes live later; null before any review.
    reviewed_count = models.PositiveIntegerField(null=True, blank=True, editable=False)
    # How many a one-off was frozen for, counted as they were written down; null where it has no frozen audience.
    audience_count = models.PositiveIntegerField(null=True, blank=True, editable=False)
    # While set, a worker is setting it live or sending it to the rest; until that is done it is what it was.
    launching_at = models.DateTimeField(null=True, blank=True, editable=False)
    launching_sample = models.PositiveIntegerField(null=True, blank=True, editable=False)
    # Customers drawn for the first launch, "Try it on a few first"; null where everybody was meant.
    sample_size = models.PositiveIntegerField(null=True, blank=True, editable=False)
    rest_sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    # While set, what was matched before this moment is held until it has been judged again (resumed, behaviour 4.9).
    rejudge_before = models.DateTimeField(null=True, blank=True, editable=False)
    last_matched_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Why a round or a scheduled launch could not run, for the alarm; empty when all is well.
    problem = models.TextField(blank=True, default="", editable=False)
    tags = models.ManyToManyField("audiences.Tag", blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        # Roles (outbound.roles) use these beside Django's own permissions to add and change.
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
        """Whether it has ever been live."""
        return self.went_live_at is not None

    @property
    def parsed_window(self) -> delivery_window.Window:
        """When it may be delivered."""
        return delivery_window.parse_window(self.window)

    def lock_row(self) -> None:
        """Lock the row until the transaction ends, and have it as it is by now: somebody may have been first."""
        # No key of it changes, so records can be written down meanwhile.
        now = type(self).objects.select_for_update(no_key=True)
        self.refresh_from_db(fields=CHANGED_BY_OTHERS, from_queryset=now)

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

    @property
    def layout(self) -> dict[str, str]:
        """What a version written now wears: the workspace's name, logo, colour and address where it is branded."""
        if self.channel != Channel.EMAIL or self.to_customer_id:
            return {}
        if self.style == Style.PLAIN:
            return {"style": Style.PLAIN.value}
        ours = Workspace.current()
        worn = {"name": ours.name, "logo": ours.logo, "colour": ours.colour, "address": ours.postal_address}
        return {"style": Style.BRANDED.value, **worn}

    @property
    def goes_per_company(self) -> bool:
        """Whether it goes once for each company: while a draft, as its content says now."""
        if self.is_locked or self.version is None or self.to_customer_id:
            return self.per_company
        return content.uses_company(self.version.subject, self.version.body, self.version.link)
