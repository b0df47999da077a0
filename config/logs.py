"""Logs as lines of JSON, for machines to read: LOG_FORMAT=json. Ids of what it is about, and never what was written."""

import json
import logging
from datetime import UTC, datetime

# What a line may be about, given as `extra`.
ABOUT = ("record", "message_id", "channel", "status_code")


class JsonLines(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """When, how grave, who says it, what, and about which rows."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": record.getMessage(),
            **{name: getattr(record, name) for name in ABOUT if hasattr(record, name)},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
