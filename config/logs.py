"""Log formats: lines, or JSON with LOG_FORMAT=json. Logs contain ids of rows, but no content, addresses or secrets.

Every log line passes through this module, because exceptions quote data: PostgreSQL the refused row, a mail server the
address. It also removes tokens of headers, values of query strings, and secret links.
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

# The ids that a line may have, given as `extra`.
ABOUT = ("record", "message_id", "channel", "status_code")
# The lines of a PostgreSQL error after the first, up to the next exception of the traceback.
QUOTED = re.compile(
    r"^(DETAIL|CONTEXT|QUERY|STATEMENT|HINT):.*?(?=\n\n(?:The above exception|During handling)|\Z)",
    re.MULTILINE | re.DOTALL,
)
ADDRESS = re.compile(r"[\w.!#$%&*+/=?^`{|}~-]{1,256}@(?=[\w-]+(?:\.[\w-]+)+)")
CREDENTIALS = re.compile(r"\b(Basic|Bearer)\s+[\w.~+/=-]{16,}", re.IGNORECASE)
USER_OF_URL = re.compile(r"(?<=://)[^\s/@\"']+@")
# URLs that give access to anyone who has them: links in emails, files of conversations, password resets; and those
# that prove a mailbox.
SECRET_PATH = re.compile(
    r"(/(?:m/(?:o|c|unsubscribe)|messenger/files|admin/(?:password|invitation|account/second-factor))/)(?!forgotten/)"
    r"[^\s\"'?#]+"
)
QUERY_VALUE = re.compile(r"([?&][^\s\"'&=?#]{1,200}=)[^\s\"'&#]+")
# Gunicorn quotes the line of a request that it cannot read.
INVALID_REQUEST = re.compile(r"(Invalid request from ip=\S+ [A-Za-z -]+:).*", re.DOTALL)
TARGET = re.compile(r"(?<!\S)/\S+")
# The headers and variables that an access log may contain (gunicorn: `%({user-agent}i)s`).
OPEN_HEADERS = re.compile(
    r"\{(accept[a-z-]*|content-(type|length|encoding)|host|user-agent|x-forwarded-(for|proto|host)|x-request-id|date"
    r"|x-ratelimit-[a-z]+|x-outbound-[a-z-]+|request_method|remote_addr|server_protocol)\}[ioe]"
)


def masked_text(text: str) -> str:
    """Return the text without quoted rows, addresses and secrets."""
    text = CREDENTIALS.sub(r"\1 …", QUOTED.sub(r"\1 left out", text))
    text = QUERY_VALUE.sub(r"\1…", SECRET_PATH.sub(r"\1…", text))
    return ADDRESS.sub("…@", USER_OF_URL.sub("…@", text))


def masked_target(target: str) -> str:
    """Return the target of a request without secrets and without the values of its query string."""
    path, mark, query = target.partition("?")
    masked = SECRET_PATH.sub(r"\1…", path)
    if masked == path and SECRET_PATH.search(unquote(path)):
        masked = "/…"
    return masked + mark + masked_query(query)


def masked_query(query: str) -> str:
    """Return a query string without its values."""
    parts = [part.partition("=") for part in query.split("&")] if query else []
    return "&".join(f"{name}=…" if equals else "…" for name, equals, _ in parts)


class AccessLogFilter(logging.Filter):
    """Remove secrets from gunicorn's access log, in any format.

    Gunicorn logs the user of HTTP Basic, which is the token of an integration.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        facts: Any = record.args
        if not isinstance(facts, dict):
            return True
        for name in [name for name in facts if name.startswith("{") and not OPEN_HEADERS.fullmatch(name)]:
            facts[name] = "-"
        method, _, rest = str(facts.get("r", "")).partition(" ")
        target, _, protocol = rest.rpartition(" ")
        referrer = str(facts.get("f", "-"))
        facts |= {
            "u": "-",
            "r": f"{method} {masked_target(target)} {protocol}",
            "U": masked_target(str(facts.get("U", "")).replace("?", "%3F")),
            "q": masked_query(str(facts.get("q", ""))),
            "f": masked_target(referrer),
            "a": masked_text(str(facts.get("a", "-"))),
        }
        return True


class ErrorLogFilter(logging.Filter):
    """Remove secrets from gunicorn's error log, which quotes the URL of a failed request."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = INVALID_REQUEST.sub(r"\1 …", record.getMessage())
        record.msg, record.args = masked_text(TARGET.sub(lambda found: masked_target(found[0]), text)), ()
        if record.exc_info:
            record.exc_text = masked_text(logging.Formatter().formatException(record.exc_info))
        return True


def mask_gunicorn_logs() -> None:
    """Remove secrets from gunicorn's logs; gunicorn configures its loggers before it loads the application."""
    for name, cleaner in (("gunicorn.access", AccessLogFilter()), ("gunicorn.error", ErrorLogFilter())):
        logging.getLogger(name).addFilter(cleaner)


class Lines(logging.Formatter):
    """Format a record as a line, with the traceback below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return masked_text(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        return masked_text(super().formatException(ei))


class JsonLines(Lines):
    """Format a record as one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": masked_text(record.getMessage()),
            **{name: getattr(record, name) for name in ABOUT if hasattr(record, name)},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
