"""Version of the API: 1.x. Requests written for 2.x are refused, so that they are not partly misunderstood."""

import re
from collections.abc import Mapping
from typing import Any

from rest_framework.request import Request

from audiences.intake import Refused
from audiences.intake.attributes.fields import quoted_value

VERSION_HEADER = "Intercom-Version"
# The generated clients for 2.x name themselves; some send no version. They would take a lead for a contact, and read a
# list of people as empty.
CLIENT_HEADERS = ("X-Fern-SDK-Name", "X-Fern-SDK-Version")
SUPPORTED_VERSION = re.compile(r"1(\.\d{1,3}){0,2}")
CLIENTS = "python-intercom==3.1.0 and intercom-client@2.11"
# Keys that identify a person in other API versions, with the hint for the error. A call that ignored one of them could
# change the wrong person.
FOREIGN_KEYS: dict[str, str] = {
    "external_id": "Send your own ID of a person as user_id, or of a company as company_id",
    "role": "Send users to /users and leads to /contacts",
    "contact_id": "Identify the person by id, user_id or email",
    "lead_id": "Identify the person by id, user_id or email",
    "visitor_id": "Identify the person by id, user_id or email",
    "contacts": "Send people in the list users",
}
# Objects with keys chosen by the caller.
CALLER_KEYS = frozenset({"custom_attributes", "metadata"})


def check_version(request: Request) -> None:
    """Refuse a version header unless it is empty or 1.x, and clients that are written for 2.x only."""
    version = request.headers.get(VERSION_HEADER, "").strip()
    name, number = (request.headers.get(header, "").strip() for header in CLIENT_HEADERS)
    if name and not version:
        client = quoted_value(f"{name} {number}".strip())
        raise Refused(
            f"This API is version 1.x. The client {client} is for 2.x. Use {CLIENTS}.", field=CLIENT_HEADERS[0]
        )
    if version and not SUPPORTED_VERSION.fullmatch(version):
        raise Refused(
            f"This API is version 1.x and does not support version {quoted_value(version)}."
            f" Omit the header {VERSION_HEADER} and use a client for 1.x, such as {CLIENTS}.",
            field=VERSION_HEADER,
        )


def refuse_foreign_keys(sent: Mapping[str, Any]) -> None:
    """Refuse a body that contains one of FOREIGN_KEYS at any depth. `field` is its path."""
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
    """Refuse identity keys that this call does not read, although others do. `path` is the path of `sent`."""
    for name in names:
        if sent.get(name) not in (None, ""):
            raise identity_key_refusal(f"{path}{name}", instead)


def refuse_our_id(sent: Mapping[str, Any], *, path: str = "") -> None:
    """Refuse intercom_user_id in calls that write a person: they expect our ID as `id`."""
    refuse_unread_keys(sent, "intercom_user_id", instead="Send our ID of a person as id", path=path)


def identity_key_refusal(field: str, instead: str) -> Refused:
    return Refused(f"{field} is not supported here. {instead}. (This API is version 1.x.)", field=field)
