"""Fields of delivery status notifications (RFC 3464, RFC 6533), read from any part that contains them.

Servers send these fields as message/delivery-status, message/global-delivery-status or plain text, encoded or not, with
lines that are not folded, groups that are not separated, and fields that are missing. So the fields are read from the
lines of the part, not from its structure.
"""

import re
from collections.abc import Iterator
from email.message import Message

from delivery.inbound import charsets

MAX_LENGTH = 100_000
# Our emails have one recipient, whose server may forward them to a few more.
MAX_GROUPS = 50
MAX_VALUE_LENGTH = 5_000
FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]{2,40}):[ \t]*(.*)")
RECIPIENT_FIELDS = ("final-recipient", "original-recipient", "x-actual-recipient")
KNOWN_FIELDS = {
    *RECIPIENT_FIELDS,
    *("action", "status", "remote-mta", "diagnostic-code", "last-attempt-date", "will-retry-until", "final-log-id"),
    *("reporting-mta", "original-envelope-id", "dsn-gateway", "received-from-mta", "arrival-date"),
}
Fields = dict[str, str]


def is_status_part(part: Message) -> bool:
    """Tell whether a part contains the fields of a delivery status notification."""
    kind = part.get_content_type()
    if kind.startswith("message/") and kind.endswith("delivery-status"):
        return True
    if kind not in ("text/plain", "application/octet-stream", "message/x-delivery-status"):
        return False
    text = part_text(part)
    return bool(
        re.search(r"^Final-Recipient:", text, re.I | re.M)
        and re.search(r"^(?:Action|Status|Reporting-MTA):", text, re.I | re.M)
    )


def recipient_groups(part: Message) -> Iterator[Fields]:
    """Yield the fields of each recipient, their names in lower case."""
    group: Fields = {}
    found = 0
    for fields in field_blocks(part_text(part)):
        if not any(name in fields for name in (*RECIPIENT_FIELDS, "action", "status", "diagnostic-code")):
            continue
        starts_anew = any(name in fields and name in group for name in (*RECIPIENT_FIELDS, "action"))
        if group and starts_anew:
            found += 1
            yield group
            group = {}
        if found == MAX_GROUPS:
            return
        group = {**group, **fields}
    if group:
        yield group


def field_blocks(text: str) -> Iterator[Fields]:
    """Yield the fields of each block; a repeated field begins another block, even without an empty line."""
    fields: Fields = {}
    name = ""
    for line in text.split("\n"):
        if not line.strip():
            yield fields
            fields, name = {}, ""
            continue
        match = None if line[0] in " \t" else FIELD.match(line)
        if match is not None and (match[1].lower() in KNOWN_FIELDS or match[1].lower().startswith("x-")):
            name = match[1].lower()
            if name in fields and name in (*RECIPIENT_FIELDS, "action"):
                yield fields
                fields = {}
            fields[name] = match[2].strip()
        elif name:
            # Folded, or a line of a reason that the server forgot to fold.
            fields[name] = f"{fields[name]} {line.strip()}"[:MAX_VALUE_LENGTH]
    yield fields


def part_text(part: Message) -> str:
    """Return the text of a part, decoded even if its type does not allow an encoding."""
    content = part.get_payload()
    if isinstance(content, list):
        # Python parses message/delivery-status into a message for each block, before any decoding.
        blocks = (block_text(block) for block in content[: MAX_GROUPS * 4] if isinstance(block, Message))
        encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
        text = "\n\n".join(blocks)
        if encoding not in ("base64", "quoted-printable"):
            return text[:MAX_LENGTH]
        inner = Message()
        inner["Content-Transfer-Encoding"] = encoding
        inner.set_payload(text)
        part = inner
    content = part.get_payload(decode=True)
    return (
        charsets.decode(content, "utf-8", longest=MAX_LENGTH).replace("\r\n", "\n").replace("\r", "\n")
        if isinstance(content, bytes)
        else ""
    )


def block_text(block: Message) -> str:
    """Return the lines of a block as they came."""
    heads = [f"{name}: {value}" for name, value in block.raw_items()]
    body = block.get_payload()
    return "\n".join([*heads, "", body] if isinstance(body, str) and body.strip() else heads)
