"""OpenAPI document of the API, assembled by drf-spectacular from the tables in each app's `api.schema`."""

import re
from functools import cache
from typing import Any

from django.conf import settings
from drf_spectacular.openapi import AutoSchema

from audiences.api import schema as of_audiences
from audiences.api.base.endpoint import Endpoint
from audiences.api.base.idempotency import IDEMPOTENCY_HEADER, REPLAYED_HEADER
from audiences.api.base.ignored_keys import IGNORED_KEYS_HEADER
from audiences.api.base.openapi import Call, Parameter, Schema, ref
from audiences.urls import ADDRESSES
from config.api_docs.descriptions import DESCRIPTIONS
from config.api_docs.examples import BODIES, example_of
from delivery.api import schema as of_delivery
from delivery.urls import ENDPOINTS
from outbound.api import schema as of_outbound

CALLS: dict[type[Endpoint], dict[str, Call]] = {**of_audiences.CALLS, **of_delivery.CALLS, **of_outbound.CALLS}
SCHEMAS: dict[str, Schema] = {**of_audiences.SCHEMAS, **of_delivery.SCHEMAS, **of_outbound.SCHEMAS}
ADDRESS_OF: dict[type[Endpoint], str] = {
    **{view: f"api/{address}" for address, view in ADDRESSES.items()},
    **{view: address for address, view in ENDPOINTS.items()},
    **{view: address for address, view in of_outbound.ADDRESSES.items()},
}
INTRODUCTION = (
    "Send data, send messages, read deliveries and answer customers. Every POST accepts an `Idempotency-Key`. The right"
    " that a token needs for a call is in `x-required-right`."
)
PATH_PARAMETER = re.compile(r"\(\?P<(\w+)>[^)]*\)")
ERRORS = {
    400: "The request is invalid. The message gives the reason.",
    401: "The token is missing or invalid.",
    403: "The token lacks the right for this call, or the action is not allowed for this customer.",
    404: "An object that the request refers to does not exist.",
    409: "The request is ambiguous, or the object can no longer be changed in this way.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "A required field is missing.",
    429: "Rate limit exceeded. The headers give the time of the reset.",
    503: "Temporarily unavailable. Try again in a moment.",
}
COMMON_ERRORS, BODY_ERRORS = (400, 401, 403, 404, 429, 503), (409, 413, 415, 422)
COMMON_HEADERS = {
    IGNORED_KEYS_HEADER: "Keys of the body that the call ignored, such as `subjekt, to.name`. Absent if none.",
    REPLAYED_HEADER: "`true` if this is the answer to an earlier request with the same Idempotency-Key.",
    "X-RateLimit-Limit": "Requests allowed in a window of 10 seconds.",
    "X-RateLimit-Remaining": "Requests left in the window.",
    "X-RateLimit-Reset": "End of the window, in unix seconds.",
}
IDEMPOTENCY_PARAMETER = {
    "name": IDEMPOTENCY_HEADER,
    "in": "header",
    "description": "A value of your own, such as a UUID: a repeated request has one effect, for 24 hours.",
    "schema": {"type": "string", "format": "uuid"},
}
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The token of an integration."},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The token as user name with an empty password, or as password with any user name.",
    },
}


def document_path(view: type[Endpoint]) -> str:
    """Return the address of a view with its parameters in braces."""
    return "/" + PATH_PARAMETER.sub(lambda found: f"{{{found[1]}}}", ADDRESS_OF[view]).replace("{pk}", "{id}")


def described_endpoints(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Return the endpoints that have a Call, each once, with its plain address instead of the URL pattern."""
    found = {}
    for _, regex, method, callback in endpoints:
        view = getattr(callback, "cls", None)
        if view in CALLS and method.lower() in CALLS[view]:
            path = document_path(view)
            found[path, method] = (path, regex, method, callback)
    return list(found.values())


def add_schemas(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Return the document with the schemas that its operations refer to, and the worked examples first."""
    info = {**result["info"], "description": f"{INTRODUCTION}\n\n{worked_examples()}"}
    return {**result, "info": info, "components": {"schemas": SCHEMAS, "securitySchemes": SECURITY}}


@cache
def worked_examples() -> str:
    return (settings.BASE_DIR / "docs" / "examples.md").read_text()


class CallSchema(AutoSchema):
    """Inspector that builds an operation from its Call."""

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> Any:
        view: Any = type(self.view)
        call: Call = CALLS[view][method.lower()]
        name = f"{method.upper()} {path.removeprefix('/api')}"
        parameters = [parameter_object(parameter) for parameter in view.parameters.get(method.lower(), ())]
        of_path = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", path)
        ]
        parameters = [*of_path, *parameters]
        refused = {*COMMON_ERRORS, *call.refuses, *(BODY_ERRORS if call.sends is not None else ())}
        if method == "POST":
            parameters.append(IDEMPOTENCY_PARAMETER)
            refused.add(409)
        operation: dict[str, Any] = {
            "operationId": f"{method.lower()}_{re.sub('[^a-z]+', '_', path.removeprefix('/api/')).strip('_')}",
            "summary": (getattr(view, method.lower()).__doc__ or "").strip(),
            "description": DESCRIPTIONS[name],
            "tags": [call.tag],
            "parameters": parameters,
            "security": [{name: []} for name in SECURITY],
            "x-required-right": view.right_for(method),
            **({"x-also-required-right": "read"} if view.needs_read_to_write and method != "GET" else {}),
            "responses": {
                str(call.status): success_response(call),
                **{
                    str(status): {"description": ERRORS[status], "content": json_content(ref("ErrorList"))}
                    for status in sorted(refused)
                },
            },
        }
        if call.sends is not None:
            example = {"example": BODIES[name]}
            operation["requestBody"] = {"required": True, "content": json_content(call.sends, **example)}
        return operation


def parameter_object(parameter: Parameter) -> dict[str, Any]:
    schema = parameter.schema or {"type": "string"}
    return {"name": parameter.name, "in": "query", "description": parameter.about, "schema": schema}


def success_response(call: Call) -> dict[str, Any]:
    """Return the response object for success."""
    headers = {**COMMON_HEADERS, **dict(call.headers)}
    response: dict[str, Any] = {
        "description": "Success.",
        "headers": {name: {"description": about, "schema": {"type": "string"}} for name, about in headers.items()},
    }
    if call.answers is None:
        return response
    return {**response, "content": json_content(call.answers, example=example_of(call.answers, schemas=SCHEMAS))}


def json_content(schema: Schema, **more: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema, **more}}
