"""Formatting of chips and times on pages."""

from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString


def chip(text: str, tone: str) -> SafeString:
    return format_html('<span class="ob-chip ob-chip-{}">{}</span>', tone, text)


def moment(when: datetime) -> str:
    """Format a time in the workspace's time zone."""
    return f"{timezone.localtime(when):%a %-d %b, %H:%M}"
