"""What a log says: ids of what it is about, and neither what was written nor to whom. LOG_FORMAT=json: lines of JSON.

All that is logged passes through here, as exceptions quote: PostgreSQL the row it refused, a mail server the address.
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

# What a line may be about, given as `extra`.
ABOUT = ("record", "message_id", "channel", "status_code")
# What PostgreSQL says of an error beyond its first line, up to where Python tells of the next exception.
QUOTED = re.compile(
    r"^(DETAIL|CONTEXT|QUERY|STATEMENT|HINT):.*?(?=\n\n(?:The above exception|During handling)|\Z)",
    re.MULTILINE | re.DOTALL,
)
ADDRESS = re.compile(r"[\w.!#$%&*+/=?^`{|}~-]{1,256}@(?=[\w-]+(?:\.[\w-]+)+)")


def discreet(text: str) -> str:
    """A text without the rows and the addresses that are quoted in it."""
    return ADDRESS.sub("…@", QUOTED.sub(r"\1 left out", text))


class Lines(logging.Formatter):
    """A line each, and the traceback below."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line."""
        return discreet(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        """The traceback."""
        return discreet(super().formatException(ei))


class JsonLines(Lines):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """When, how grave, who says it, what, and about which rows."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": discreet(record.getMessage()),
            **{name: getattr(record, name) for name in ABOUT if hasattr(record, name)},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
