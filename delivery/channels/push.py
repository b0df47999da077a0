"""Push: by Firebase if FCM_CREDENTIALS is set, else written to the log."""

import logging

from django.conf import settings

from delivery.channels.base import Channel, Envelope

log = logging.getLogger(__name__)
# Firebase accepts 4,096 bytes in all; a phone shows the first few hundred characters.
TITLE_MAX_BYTES, BODY_MAX_BYTES = 300, 2000


class Log:
    """Writes each push to the log, one line per device, without its text."""

    def send(self, envelope: Envelope) -> str:
        for token in envelope.to:
            log.info("push %s to device %s…", envelope.message_id, token[:6])
        return ""

    def close(self) -> None:
        """Do nothing."""


def push() -> Channel:
    """Return the channel for the settings."""
    if not settings.FCM_CREDENTIALS:
        return Log()
    # Firebase's library takes most of a second and 30 MB, so it is imported only if needed.
    from delivery.channels.firebase import Firebase

    return Firebase(settings.FCM_CREDENTIALS)


def push_texts(title: str, text: str) -> tuple[str, str]:
    """Return the title and the text as they are sent to phones."""
    return truncate_text(title, TITLE_MAX_BYTES), truncate_text(text.strip(), BODY_MAX_BYTES)


def truncate_text(text: str, most: int) -> str:
    """Shorten the text to at most so many bytes."""
    if len(text.encode()) <= most:
        return text
    return text.encode()[: most - 3].decode(errors="ignore").rstrip() + "…"
