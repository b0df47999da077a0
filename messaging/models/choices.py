"""What can be chosen about a message: how it reaches a customer, what it looks like, how and when it sends."""

from django.db import models


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


class WindowZone(models.TextChoices):
    """Whose clock the delivery window goes by."""

    WORKSPACE = "workspace", "The workspace's time zone"
    CUSTOMER = "customer", "Each customer's time zone"
