"""Workspace settings (one row) and API tokens."""

import secrets
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pgtrigger
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, User
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator, validate_email
from django.db import models
from knox.models import AbstractAuthToken

from audiences.models.sealed import SealedField

COLOUR = RegexValidator(r"^#[0-9a-fA-F]{6}$", "Enter a colour such as #0b5cad.")


def check_zone(name: str) -> None:
    if name not in available_timezones():
        raise ValidationError(f"“{name}” is not a valid time zone. Use a name such as Europe/Dublin.")


def check_addresses(typed: str) -> None:
    """Raise ValidationError if an address in a list, separated by commas or spaces, is not valid."""
    for address in typed.replace(",", " ").split():
        try:
            validate_email(address)
        except ValidationError as no:
            raise ValidationError(f"“{address}” is not a valid email address.") from no


def new_secret() -> str:
    """Return a secret for identity verification (behaviour 7.3)."""
    return secrets.token_urlsafe(32)


class Workspace(models.Model):
    """The one row of settings. `generation` increases when compiled messages in worker memory become stale."""

    name = models.CharField(max_length=200, default="Outbound")
    zone = models.CharField("time zone", max_length=64, default="UTC", validators=[check_zone])
    office_hours = models.JSONField(default=list, blank=True)
    postal_address = models.TextField(blank=True)
    # For branded emails. The URL is one of this server, or public.
    logo = models.CharField(
        max_length=500,
        blank=True,
        default="",
        db_default="",
        help_text="URL of an image, about 40 pixels high. It is shown at the top of branded emails.",
    )
    colour = models.CharField(
        max_length=7,
        default="#2563eb",
        db_default="#2563eb",
        validators=[COLOUR],
        help_text="Colour of the border and links in branded emails.",
    )
    allowed_origins = models.JSONField(default=list, blank=True, help_text="Websites that may load the messenger.")
    identity_secret = SealedField(max_length=200, default=new_secret)
    require_user_hash = models.BooleanField(
        "require identity verification",
        default=True,
        help_text="If off, any visitor can pretend to be any of your customers.",
    )
    confirm_above = models.PositiveIntegerField(
        default=1000, help_text="Above this many recipients, the sender must type the number to set a message live."
    )
    drift_percent = models.PositiveSmallIntegerField(
        default=5, help_text="How much an audience may change between review and go-live, in percent."
    )
    cap_messages = models.PositiveSmallIntegerField(
        "messages at most",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Maximum for one customer within the days below, across all channels. Empty: no limit.",
    )
    cap_days = models.PositiveSmallIntegerField(
        "within days", default=7, db_default=7, validators=[MinValueValidator(1), MaxValueValidator(90)]
    )
    quiet_from = models.TimeField(
        "quiet from",
        null=True,
        blank=True,
        help_text="Emails and pushes to an audience wait for the end of quiet hours. Empty: there are none.",
    )
    quiet_to = models.TimeField("quiet until", null=True, blank=True)
    double_opt_in = models.BooleanField(
        "leads confirm their address",
        default=False,
        db_default=False,
        help_text="If on, a lead gets no email to an audience before they confirm their address.",
    )
    track_emails = models.BooleanField(
        "track opens and clicks",
        default=True,
        db_default=True,
        help_text="Adds an invisible image to emails and routes their links through this server. If off, new emails"
        " have neither, and reports cannot show opens and clicks.",
    )
    answer_by_email_after = models.PositiveSmallIntegerField(
        "minutes before an answer is emailed",
        default=5,
        db_default=5,
        validators=[MinValueValidator(1), MaxValueValidator(1440)],
        help_text="If the customer has not returned by then, they get the teammate’s answer by email.",
    )
    alarm_to = models.TextField(
        "alarms go to",
        blank=True,
        default="",
        db_default="",
        validators=[check_addresses],
        help_text="Email addresses, separated by commas, that get alarms and their all-clear. Empty: every Admin.",
    )
    keep_events_days = models.PositiveSmallIntegerField(
        "keep events for days",
        null=True,
        blank=True,
        validators=[MinValueValidator(7)],
        help_text="Older events are deleted once a day. Their count, first and last time are kept for rules."
        " Empty: keep for ever.",
    )
    keep_copies_days = models.PositiveSmallIntegerField(
        "keep copies for days",
        null=True,
        blank=True,
        validators=[MinValueValidator(7)],
        help_text="After this, the personal content of emails and pushes is deleted, and links made of variables stop"
        " working. Recipients, times and results are kept. Empty: keep for ever.",
    )
    generation = models.BigIntegerField(default=1, editable=False)

    class Meta:
        verbose_name_plural = "workspace"
        constraints = [
            models.CheckConstraint(name="one_workspace", condition=models.Q(pk=1)),
            models.CheckConstraint(
                name="quiet_hours_begin_and_end",
                condition=models.Q(quiet_from=None, quiet_to=None)
                | models.Q(
                    models.Q(quiet_from__isnull=False, quiet_to__isnull=False),
                    ~models.Q(quiet_from=models.F("quiet_to")),
                    # The half hours of delivery windows.
                    quiet_from__minute__in=(0, 30),
                    quiet_to__minute__in=(0, 30),
                    quiet_from__second=0,
                    quiet_to__second=0,
                ),
            ),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="zone_changed",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition(
                    "((OLD.zone, OLD.identity_secret, OLD.require_user_hash, OLD.quiet_from, OLD.quiet_to,"
                    " OLD.double_opt_in) IS DISTINCT FROM (NEW.zone, NEW.identity_secret, NEW.require_user_hash,"
                    " NEW.quiet_from, NEW.quiet_to, NEW.double_opt_in))"
                ),
                func="NEW.generation = OLD.generation + 1; RETURN NEW;",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def current(cls) -> "Workspace":
        """Return the one row; create it at its first use."""
        return cls.objects.get_or_create(pk=1)[0]

    @classmethod
    def identity_settings(cls) -> tuple[str, bool]:
        """Return the identity secret and whether identity verification is required. Called at every visit."""
        found = cls.objects.filter(pk=1).values_list("identity_secret", "require_user_hash").first()
        return found or (cls.current().identity_secret, True)

    @property
    def quiet_hours(self) -> tuple[time, time] | None:
        """The beginning and the end of quiet hours, in local time; None if there are none."""
        return (self.quiet_from, self.quiet_to) if self.quiet_from is not None and self.quiet_to is not None else None

    @property
    def tz(self) -> ZoneInfo:
        """The workspace's time zone, for calendar days and delivery windows."""
        return ZoneInfo(self.zone)


class TokenRight(models.TextChoices):
    """What a token may be used for."""

    READ = "read", "Read data"
    WRITE = "write", "Write data"
    SEND = "send", "Send messages and replies"


def all_rights() -> list[str]:
    return list(TokenRight.values)


class Integration(AbstractAuthToken):
    """An API token, hashed, without expiry. Its user cannot log in."""

    LAST_USED_EVERY = timedelta(minutes=1)

    name = models.CharField(max_length=200)
    # The teammate for whom it acts: the one who created it.
    teammate = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    rights = ArrayField(
        models.CharField(max_length=8, choices=TokenRight), default=all_rights, db_default=TokenRight.values
    )
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta(AbstractAuthToken.Meta):
        constraints = [
            models.CheckConstraint(
                name="token_has_rights",
                condition=models.Q(rights__contained_by=TokenRight.values) & ~models.Q(rights=[]),
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def rights_text(self) -> str:
        """The rights as staff read them."""
        if set(self.rights) == set(TokenRight):
            return "All"
        return ", ".join(str(right.label) for right in TokenRight if right in self.rights)

    @classmethod
    def issue(
        cls,
        *,
        name: str,
        rights: Sequence[str] = tuple(TokenRight.values),
        teammate: AbstractBaseUser | None = None,
    ) -> "tuple[Integration, str]":
        """Create an integration with its user. Return it and the token, which cannot be read again."""
        username = f"integration-{secrets.token_hex(8)}"
        user = get_user_model().objects.create_user(username=username, first_name=name[:150])
        integration, token = cls.objects.create(user=user, name=name, rights=list(rights), teammate=teammate)
        return integration, token

    def acting_teammate(self) -> "User | None":
        """Return the teammate for whom it acts; None if they have left or are not known."""
        return get_user_model().objects.filter(is_staff=True, is_active=True, pk=self.teammate_id).first()

    def revoke(self) -> None:
        """Delete the token, and its user unless the user is a teammate."""
        user = self.user
        self.delete()
        if not user.is_staff and not user.has_usable_password():
            user.delete()

    def mark_used(self, *, at: datetime) -> None:
        """Set `last_used_at`, at most once a minute."""
        if self.last_used_at is None or at - self.last_used_at >= self.LAST_USED_EVERY:
            type(self).objects.filter(pk=self.pk).update(last_used_at=at)
