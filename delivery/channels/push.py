"""Mobile push: for now it writes to the log; its provider comes later."""

import logging

from delivery.channels.base import Envelope

log = logging.getLogger(__name__)


class Push:
    """Writes each push to the log, one line a device, without its text."""

    def send(self, envelope: Envelope) -> str:
        """Log the push for each device."""
        for token in envelope.to:
            log.info("push %s to device %s…", envelope.message_id, token[:6])
        return ""

    def close(self) -> None:
        """Nothing is kept open."""
