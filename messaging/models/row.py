"""The row of a message: what is known of it, and the questions asked about many."""

from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import models

from audiences.models import Audience
from messaging import delivery_window
from messaging.models.choices import Channel, Format, SendType, Style, WindowZone
from messaging.models.sender import Sender
from messaging.models.states import RUNNING, State
from messaging.models.version import MessageVersion

if TYPE_CHECKING:
    from messaging.models.message import Message  # noqa: F401 - named in the base of the queryset


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
        """Those of the Outbound tabs: not to one person (DESIGN 4.12)."""
        return self.filter(to_customer=None)

    def to_one_person(self) -> Self:
        """Those written to one customer."""
        return self.exclude(to_customer=None)


class Row(models.Model):
    """The columns of a message."""

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
        abstract = True

    def __str__(self) -> str:
        return self.title

    @property
    def is_locked(self) -> bool:
        """Whether it has ever been live."""
        return self.went_live_at is not None

    @property
    def parsed_window(self) -> delivery_window.Window:
        """When it may be delivered."""
        return delivery_window.parse(self.window)

    def hold(self) -> None:
        """Lock the row until the transaction ends, and have it as it is by now: somebody may have been first."""
        # No key of it changes, so records can be written down meanwhile.
        now = type(self).objects.select_for_update(no_key=True)
        self.refresh_from_db(fields=CHANGED_BY_OTHERS, from_queryset=now)
