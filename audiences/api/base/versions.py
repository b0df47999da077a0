"""The version of the API: the 1.x family. Requests written for 2.x are refused instead of half understood."""

import re
from collections.abc import Mapping
from typing import Any

from audiences.intake import Refused
from audiences.intake.attributes.fields import quoted_value

VERSION_HEADER = "Intercom-Version"
SUPPORTED_VERSION = re.compile(r"1(\.\d{1,3}){0,2}")
CLIENTS = "python-intercom==3.1.0 and intercom-client@2.11"
# Keys by which other versions name a person or say what they are, and what to send instead. No call reads them, and a
# call that dropped one would write to somebody else.
FOREIGN_KEYS: dict[str, str] = {
    "external_id": "Send your own ID of a person as user_id, and that of a company as company_id",
    "role": "Send users to /users and leads to /contacts",
    "contact_id": "Name the person by id, user_id or email",
    "lead_id": "Name the person by id, user_id or email",
    "visitor_id": "Name the person by id, user_id or email",
    "contacts": "Send people in the list users",
}
# Their keys are the caller's own.
CALLER_KEYS = frozenset({"custom_attributes", "metadata"})


def check_version(asked: str) -> None:
    """Refuse the value of the version header unless it is empty or of the 1.x family."""
    version = asked.strip()
    if version and not SUPPORTED_VERSION.fullmatch(version):
        raise Refused(
            f"This API is of the 1.x family and does not know version {quoted_value(version)}."
            f" Leave the header {VERSION_HEADER} out,"
            f" and use a client for 1.x: {CLIENTS} work.",
            field=VERSION_HEADER,
        )


def refuse_foreign_keys(sent: Mapping[str, Any]) -> None:
    """Refuse a body that has one of FOREIGN_KEYS at any depth; `field` is the path to it."""
    waiting: list[tuple[str, Any]] = [("", sent)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, list):
            waiting.extend((f"{path}[{number}]", inner) for number, inner in enumerate(value))
        if not isinstance(value, Mapping):
            continue
        for key, inner in value.items():
            place = f"{path}.{key}" if path else key
            if key in FOREIGN_KEYS and inner not in (None, ""):
                raise identity_key_refusal(place, FOREIGN_KEYS[key])
            if key not in CALLER_KEYS:
                waiting.append((place, inner))


def refuse_unread_keys(sent: Mapping[str, Any], *names: str, instead: str, path: str = "") -> None:
    """Refuse identity keys that the call at hand does not read, though others do; `path` leads to `sent`."""
    for name in names:
        if sent.get(name) not in (None, ""):
            raise identity_key_refusal(f"{path}{name}", instead)


def refuse_our_id(sent: Mapping[str, Any], *, path: str = "") -> None:
    """Refuse intercom_user_id where a person is written: there our ID of them is `id`."""
    refuse_unread_keys(sent, "intercom_user_id", instead="Send our ID of a person as id", path=path)


def identity_key_refusal(field: str, instead: str) -> Refused:
    """Return the refusal of an identity key."""
    return Refused(f"{field} is not read here. {instead}. (This API is of the 1.x family.)", field=field)
