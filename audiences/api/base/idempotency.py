"""Idempotency keys: a POST that is repeated with the same key has one effect, and gets the first answer again.

The key is inserted in the transaction of the effects, under a unique constraint. A concurrent request with the same key
waits there, then finds the answer. An error rolls the key back with everything else, so the request can be sent again.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from audiences.intake import Conflict, Refused
from audiences.models import IdempotencyKey, Integration
from audiences.models.customers import Role
from audiences.transactions import retried

IDEMPOTENCY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
KEY = re.compile(r"[\x21-\x7e]{1,255}")
# The types of the references to a person in answers.
PERSON_TYPES = {*Role.values, "contact"}
INVALID_KEY = f"{IDEMPOTENCY_HEADER} must have 1 to 255 visible ASCII characters, such as a UUID."
OTHER_REQUEST = (
    "This key was used for another request in the last 24 hours. Send a new key with a new request, and the same key"
    " only with the same address, query and body."
)


def has_key(request: Request) -> bool:
    return request.method == "POST" and IDEMPOTENCY_HEADER in request.headers


@retried
def answer_once(carry_out: Callable[..., Response], request: Request, *args: Any, **kwargs: Any) -> Response:
    """Carry out the request and store its answer; return the stored answer if the key was used before."""
    key, at, integration = request.headers[IDEMPOTENCY_HEADER].strip(), timezone.now(), request.auth
    assert isinstance(integration, Integration)  # noqa: S101 - only integrations call the API
    if not KEY.fullmatch(key):
        raise Refused(INVALID_KEY, field=IDEMPOTENCY_HEADER)
    IdempotencyKey.objects.filter(integration=integration, key=key).delete_expired(at=at)
    digest = request_digest(request)
    used, is_new = IdempotencyKey.objects.get_or_create(
        integration=integration, key=key, defaults={"digest": digest, "created_at": at}
    )
    if not is_new:
        return stored_answer(used, digest=digest)
    response = carry_out(request, *args, **kwargs)
    used.status, used.people = response.status_code, sorted(set(find_people(response.data)))
    used.answer = "" if response.data is None else json.dumps(response.data, cls=JSONEncoder)
    used.save(update_fields=("status", "people", "answer"))
    return response


def request_digest(request: Request) -> str:
    """Return the digest of address, query and body. Equal JSON has one digest, whatever its spaces and order."""
    address = request.path.replace("/api/api/", "/api/", 1).rstrip("/")
    content = [address, sorted(request.query_params.items()), request.data]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def stored_answer(used: IdempotencyKey, *, digest: str) -> Response:
    """Return the answer of the first request with this key."""
    if used.digest != digest:
        raise Conflict(OTHER_REQUEST, field=IDEMPOTENCY_HEADER)
    if used.answer is None:
        raise Conflict(
            "This request was carried out. Its answer is gone, because a person in it was erased.",
            field=IDEMPOTENCY_HEADER,
        )
    data = json.loads(used.answer) if used.answer else None
    return Response(data, status=used.status, headers={REPLAYED_HEADER: "true"})


def find_people(answer: object) -> Iterator[int]:
    """Yield the ids of the customers whom an answer names."""
    if isinstance(answer, list):
        for entry in answer:
            yield from find_people(entry)
    elif isinstance(answer, dict):
        named = answer.get("id", "")
        if answer.get("type") in PERSON_TYPES and str(named).isdecimal():
            yield int(named)
        for value in answer.values():
            yield from find_people(value)
