"""The workspace: the one row of settings staff can change, and the integrations that may call the API."""

import secrets
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pgtrigger
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator, validate_email
from django.db import models
from knox.models import AbstractAuthToken

from audiences.models.sealed import SealedField

COLOUR = RegexValidator(r"^#[0-9a-fA-F]{6}$", "Write the colour like #0b5cad.")


def check_zone(name: str) -> None:
    """Refuse a time zone that does not exist."""
    if name not in available_timezones():
        raise ValidationError(f"There is no time zone “{name}”. Write it like Europe/Dublin.")


def check_addresses(typed: str) -> None:
    """Refuse a list with something in it that is no email address."""
    for address in typed.replace(",", " ").split():
        try:
            validate_email(address)
        except ValidationError as no:
            raise ValidationError(f"“{address}” is no email address.") from no


def new_secret() -> str:
    """Return a secret for identity verification (behaviour 7.3)."""
    return secrets.token_urlsafe(32)


class Workspace(models.Model):
    """One row. `generation` counts the changes that what is kept compiled in a process depends on."""

    name = models.CharField(max_length=200, default="Outbound")
    zone = models.CharField("time zone", max_length=64, default="UTC", validators=[check_zone])
    office_hours = models.JSONField(default=list, blank=True)
    postal_address = models.TextField(blank=True)
    # What a branded email wears. The address is one of ours, or one a browser anywhere can reach.
    logo = models.CharField(
        max_length=500,
        blank=True,
        default="",
        db_default="",
        help_text="The address of a picture, about 40 pixels high. A branded email begins with it.",
    )
    colour = models.CharField(
        max_length=7,
        default="#2563eb",
        db_default="#2563eb",
        validators=[COLOUR],
        help_text="The colour of a branded email’s edge and links.",
    )
    allowed_origins = models.JSONField(default=list, blank=True, help_text="Websites the messenger may run on.")
    identity_secret = SealedField(max_length=200, default=new_secret)
    require_user_hash = models.BooleanField(
        "require identity verification",
        default=True,
        help_text="Without it, anybody can claim in a browser to be any of your customers.",
    )
    confirm_above = models.PositiveIntegerField(
        default=1000, help_text="Above this many people, the sender types the number to set a message live."
    )
    drift_percent = models.PositiveSmallIntegerField(
        default=5, help_text="How much an audience may have changed between the review and setting live."
    )
    cap_messages = models.PositiveSmallIntegerField(
        "messages at most",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="To one customer within the days below, in all channels together. Empty: as many as there are.",
    )
    cap_days = models.PositiveSmallIntegerField(
        "within days", default=7, db_default=7, validators=[MinValueValidator(1), MaxValueValidator(90)]
    )
    track_emails = models.BooleanField(
        "track opens and clicks",
        default=True,
        db_default=True,
        help_text="Emails carry an unseen picture, and their links lead over this server. Off, neither is in what"
        " goes out from then on, and reports cannot say who opened or clicked.",
    )
    answer_by_email_after = models.PositiveSmallIntegerField(
        "minutes before an answer is emailed",
        default=5,
        db_default=5,
        validators=[MinValueValidator(1), MaxValueValidator(1440)],
        help_text="A customer who has not been back by then gets a teammate’s answer by email, once.",
    )
    alarm_to = models.TextField(
        "alarms go to",
        blank=True,
        default="",
        db_default="",
        validators=[check_addresses],
        help_text="Who is told when something is stuck, and when it is over: addresses with commas between them."
        " Empty: every Admin.",
    )
    keep_events_days = models.PositiveSmallIntegerField(
        "keep events for days",
        null=True,
        blank=True,
        validators=[MinValueValidator(7)],
        help_text="Older events of customers are deleted, once a day. How often, first and last they did something is"
        " kept, as rules ask for it. Empty: for ever.",
    )
    keep_copies_days = models.PositiveSmallIntegerField(
        "keep copies for days",
        null=True,
        blank=True,
        validators=[MinValueValidator(7)],
        help_text="Of older emails and pushes it is still known who got which when, and what came of it; no longer what"
        " was filled in for them, nor what was written to one person. Links made of variables end. Empty: for ever.",
    )
    generation = models.BigIntegerField(default=1, editable=False)

    class Meta:
        verbose_name_plural = "workspace"
        constraints = [models.CheckConstraint(name="one_workspace", condition=models.Q(pk=1))]
        triggers = [
            pgtrigger.Trigger(
                name="zone_changed",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition(
                    "((OLD.zone, OLD.identity_secret, OLD.require_user_hash)"
                    " IS DISTINCT FROM (NEW.zone, NEW.identity_secret, NEW.require_user_hash))"
                ),
                func="NEW.generation = OLD.generation + 1; RETURN NEW;",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def current(cls) -> "Workspace":
        """Return the one row, made at its first use."""
        return cls.objects.get_or_create(pk=1)[0]

    @classmethod
    def identity_settings(cls) -> tuple[str, bool]:
        """Return the identity secret, and whether a browser must prove whom it names: read at every visit."""
        found = cls.objects.filter(pk=1).values_list("identity_secret", "require_user_hash").first()
        return found or (cls.current().identity_secret, True)

    @property
    def tz(self) -> ZoneInfo:
        """The zone its calendar days and windows are in."""
        return ZoneInfo(self.zone)


class Integration(AbstractAuthToken):
    """An API token, hashed at rest: shown once when made, without expiry, with a login-less user of its own."""

    LAST_USED_EVERY = timedelta(minutes=1)

    name = models.CharField(max_length=200)
    last_used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name

    @classmethod
    def issue(cls, *, name: str) -> "tuple[Integration, str]":
        """Make an integration with a user of its own who cannot log in; return it with its token, shown only now."""
        username = f"integration-{secrets.token_hex(8)}"
        user = get_user_model().objects.create_user(username=username, first_name=name[:150])
        integration, token = cls.objects.create(user=user, name=name)
        return integration, token

    def revoke(self) -> None:
        """End the token, with its user if that is nobody who works here."""
        user = self.user
        self.delete()
        if not user.is_staff and not user.has_usable_password():
            user.delete()

    def mark_used(self, *, at: datetime) -> None:
        """Note that the token was used; written at most once a minute."""
        if self.last_used_at is None or at - self.last_used_at >= self.LAST_USED_EVERY:
            type(self).objects.filter(pk=self.pk).update(last_used_at=at)
