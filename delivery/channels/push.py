"""Mobile push: through Firebase if FCM_CREDENTIALS is set; otherwise each push is only logged."""

import logging

from django.conf import settings

from delivery.channels.base import Channel, Envelope

log = logging.getLogger(__name__)


class Log:
    """Writes each push to the log, one line a device, without its text."""

    def send(self, envelope: Envelope) -> str:
        """Log the push for each device."""
        for token in envelope.to:
            log.info("push %s to device %s…", envelope.message_id, token[:6])
        return ""

    def close(self) -> None:
        """Nothing is kept open."""


def push() -> Channel:
    """Return the channel the settings ask for."""
    if not settings.FCM_CREDENTIALS:
        return Log()
    # An optional package (requirements-push.lock) that takes most of a second and 30 MB to import.
    from delivery.channels.firebase import Firebase

    return Firebase(settings.FCM_CREDENTIALS)
