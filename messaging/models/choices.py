"""Choices of a message: channel, format, style, send type and the time zone of its delivery window."""

from django.db import models


class Channel(models.TextChoices):
    """How a message reaches a customer; each has a module in delivery.channels."""

    EMAIL = "email", "Email"
    IN_APP = "in_app", "In-app"
    PUSH = "push", "Mobile push"


class Format(models.TextChoices):
    """Appearance of an in-app message."""

    CHAT = "chat", "Chat"
    ANNOUNCEMENT = "announcement", "Announcement"


class Style(models.TextChoices):
    """Appearance of an email."""

    PLAIN = "plain", "Plain"
    BRANDED = "branded", "Branded"


class SendType(models.TextChoices):
    """Ongoing: sent to each customer who starts to match. One-off: sent once, to the customers who match at launch."""

    ONGOING = "ongoing", "Ongoing"
    ONE_OFF = "one_off", "One-off"


class WindowZone(models.TextChoices):
    """Time zone in which the delivery window is read."""

    WORKSPACE = "workspace", "The workspace's time zone"
    CUSTOMER = "customer", "Each customer's time zone"


class Checking(models.TextChoices):
    """When the filters of an ongoing email or push are checked, besides at each visit."""

    HOURLY = "hourly", "Every hour"
    AT_ONCE = "at_once", "As soon as something changes"
