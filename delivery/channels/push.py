"""Push: by Firebase if FCM_CREDENTIALS is set, else written to the log."""

import logging

from django.conf import settings

from delivery.channels.base import Channel, Envelope

log = logging.getLogger(__name__)


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
