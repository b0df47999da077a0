"""In-app messages: a visit opens the conversation in the transaction that marks the record sent (behaviour 5).

The messenger decides how it looks: a chat is a thread, an announcement a dialog.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One in-app message as the messenger shows it."""

    record: int
    message: int
    format: str
    # The title of an announcement; a chat has none.
    subject: str
    body: str
    sender: str
    sent_at: datetime

    def as_json(self) -> Mapping[str, object]:
        """Return the JSON of the API; times in unix seconds."""
        return {
            "type": "in_app_message",
            "id": str(self.record),
            "message_id": str(self.message),
            "format": self.format,
            "subject": self.subject,
            "body": self.body,
            "from": {"type": "admin", "name": self.sender},
            "sent_at": int(self.sent_at.timestamp()),
        }
