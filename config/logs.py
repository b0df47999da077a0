"""What a log says: ids of what it is about, and neither what was written nor to whom. LOG_FORMAT=json: lines of JSON.

All that is logged passes through here, as exceptions quote: PostgreSQL the row it refused, a mail server the address.
Nor is there a secret in it: no token of a header, no value of a query string, and no link that opens something.
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

# What a line may be about, given as `extra`.
ABOUT = ("record", "message_id", "channel", "status_code")
# What PostgreSQL says of an error beyond its first line, up to where Python tells of the next exception.
QUOTED = re.compile(
    r"^(DETAIL|CONTEXT|QUERY|STATEMENT|HINT):.*?(?=\n\n(?:The above exception|During handling)|\Z)",
    re.MULTILINE | re.DOTALL,
)
ADDRESS = re.compile(r"[\w.!#$%&*+/=?^`{|}~-]{1,256}@(?=[\w-]+(?:\.[\w-]+)+)")
CREDENTIALS = re.compile(r"\b(Basic|Bearer)\s+[\w.~+/=-]{16,}", re.IGNORECASE)
USER_OF_URL = re.compile(r"(?<=://)[^\s/@\"']+@")
# Addresses of ours that open something for anyone who has them: links of mails, files of conversations, new passwords.
SECRET_PATH = re.compile(
    r"(/(?:m/(?:o|c|unsubscribe)|messenger/files|admin/password|admin/invitation)/)(?!forgotten/)[^\s\"'?#]+"
)
QUERY_VALUE = re.compile(r"([?&][^\s\"'&=?#]{1,200}=)[^\s\"'&#]+")
# Gunicorn quotes the line of a request that it cannot read.
INVALID_REQUEST = re.compile(r"(Invalid request from ip=\S+ [A-Za-z -]+:).*", re.DOTALL)
TARGET = re.compile(r"(?<!\S)/\S+")
# What an access log may name of a request and its answer, besides its line (gunicorn: `%({user-agent}i)s`).
OPEN_HEADERS = re.compile(
    r"\{(accept[a-z-]*|content-(type|length|encoding)|host|user-agent|x-forwarded-(for|proto|host)|x-request-id|date"
    r"|x-ratelimit-[a-z]+|x-outbound-[a-z-]+|request_method|remote_addr|server_protocol)\}[ioe]"
)


def discreet(text: str) -> str:
    """A text without the rows, the addresses and the secrets that are quoted in it."""
    text = CREDENTIALS.sub(r"\1 …", QUOTED.sub(r"\1 left out", text))
    text = QUERY_VALUE.sub(r"\1…", SECRET_PATH.sub(r"\1…", text))
    return ADDRESS.sub("…@", USER_OF_URL.sub("…@", text))


def discreet_target(target: str) -> str:
    """Return the target of a request without secrets: of its query string only the names are left."""
    path, mark, query = target.partition("?")
    masked = SECRET_PATH.sub(r"\1…", path)
    if masked == path and SECRET_PATH.search(unquote(path)):
        masked = "/…"
    return masked + mark + discreet_query(query)


def discreet_query(query: str) -> str:
    """Return a query string without its values."""
    parts = [part.partition("=") for part in query.split("&")] if query else []
    return "&".join(f"{name}=…" if equals else "…" for name, equals, _ in parts)


class DiscreetAccess(logging.Filter):
    """Gunicorn's access log without secrets, whatever format it is given.

    Gunicorn names the user of HTTP Basic, who is the token of an integration.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean the facts of one request; the line is always written."""
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
            "r": f"{method} {discreet_target(target)} {protocol}",
            "U": discreet_target(str(facts.get("U", "")).replace("?", "%3F")),
            "q": discreet_query(str(facts.get("q", ""))),
            "f": discreet_target(referrer),
            "a": discreet(str(facts.get("a", "-"))),
        }
        return True


class DiscreetErrors(logging.Filter):
    """Gunicorn's own reports without secrets: it quotes the address of a request that failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean one report; it is always written."""
        said = INVALID_REQUEST.sub(r"\1 …", record.getMessage())
        record.msg, record.args = discreet(TARGET.sub(lambda found: discreet_target(found[0]), said)), ()
        if record.exc_info:
            record.exc_text = discreet(logging.Formatter().formatException(record.exc_info))
        return True


def quieten_gunicorn() -> None:
    """Keep secrets out of what gunicorn logs from now on; gunicorn configures its loggers before it loads us."""
    for name, cleaner in (("gunicorn.access", DiscreetAccess()), ("gunicorn.error", DiscreetErrors())):
        logging.getLogger(name).addFilter(cleaner)


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
