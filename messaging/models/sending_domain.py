"""Domains of senders' addresses: what each publishes for email, as last checked (behaviour 4.26)."""

from datetime import datetime, timedelta
from typing import Any

from django.core.validators import RegexValidator
from django.db import models

# The daily check may be an hour late.
CHECK_INTERVAL = timedelta(hours=25)
# Names that cannot be owned (RFC 2606, RFC 6761); the demo uses them.
RESERVED_NAMES = ("example", "test", "invalid", "localhost", "localdomain", "example.com", "example.net", "example.org")
REJECTED = (
    "Large mailbox providers reject emails from {}: {} “Senders”, “Domains” says what to publish. An Admin can allow it"
    " there."
)


class Verdict(models.TextChoices):
    """The results of one check."""

    FINE = "fine", "OK"
    WARNING = "warning", "Warning"
    REJECTED = "rejected", "Rejected by providers"
    UNANSWERED = "unanswered", "Not checked: no answer"
    UNKNOWN = "unknown", "Cannot be seen from here"


def is_reserved(domain: str) -> bool:
    """Whether a domain is reserved for documentation and tests, so that nothing can be published for it."""
    return any(domain == name or domain.endswith(f".{name}") for name in RESERVED_NAMES)


class SendingDomain(models.Model):
    """One domain of senders' addresses with the findings of its last check."""

    name = models.CharField(primary_key=True, max_length=253)
    dkim_selector = models.CharField(
        "DKIM selector",
        max_length=100,
        blank=True,
        default="",
        validators=[RegexValidator(r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", "This is not a DKIM selector.")],
        help_text="The value of s= in the DKIM-Signature header of an email that you received from this domain.",
    )
    # Each: check, verdict, text, and the DNS records to publish (name, type, value).
    findings = models.JSONField(default=list, editable=False)
    checked_at = models.DateTimeField(null=True, editable=False)
    # Until when a process has claimed the check.
    checking_until = models.DateTimeField(null=True, editable=False)
    # When an Admin allowed to send although providers reject it. A later check without such a finding ends it.
    allowed_at = models.DateTimeField(null=True, editable=False)

    def __str__(self) -> str:
        return self.name

    def is_due(self, *, at: datetime) -> bool:
        """Whether the domain was never checked, or longer ago than the daily check allows."""
        return self.checked_at is None or self.checked_at <= at - CHECK_INTERVAL

    def findings_with(self, *verdicts: Verdict) -> list[dict[str, Any]]:
        return [finding for finding in self.findings if finding["verdict"] in verdicts]

    @property
    def is_rejected(self) -> bool:
        return bool(self.findings_with(Verdict.REJECTED))

    @property
    def launch_problem(self) -> str:
        """Return why an email from this domain cannot go live, or ""."""
        return REJECTED.format(self.name, self.rejection) if self.rejection else ""

    @property
    def rejection(self) -> str:
        """Return why large mailbox providers reject emails from this domain, unless an Admin allowed them; else ""."""
        if self.allowed_at or is_reserved(self.name):
            return ""
        return join_texts(self.findings_with(Verdict.REJECTED))

    @property
    def launch_warning(self) -> str:
        """Return a sentence on what staff should know before an email from this domain goes live, or ""."""
        if is_reserved(self.name):
            return ""
        shown = [Verdict.WARNING, *([Verdict.REJECTED] if self.allowed_at else [])]
        found = join_texts(self.findings_with(*shown))
        unanswered = self.findings_with(Verdict.UNANSWERED)
        if unanswered:
            checks = ", ".join(finding["check"] for finding in unanswered)
            found = f"{found} The DNS did not answer, so this could not be checked: {checks}.".strip()
        return f"Domain {self.name}: {found}" if found else ""


def join_texts(findings: list[dict[str, Any]]) -> str:
    return " ".join(finding["text"] for finding in findings)
