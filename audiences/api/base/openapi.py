"""Helpers for the OpenAPI document: JSON Schema fragments, and the description of one call.

Each app's `api.schema` module describes its calls in tables; config.openapi assembles the document.
"""

from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
MOMENT: Schema = {"type": "integer", "description": "Unix seconds."}
FREE: Schema = {"type": "object", "additionalProperties": True}
# Accepted as text: a number is converted, null means no value.
TEXTUAL: Schema = {"type": ["string", "number", "null"]}
SENT_MOMENT: Schema = {"type": ["integer", "string", "null"], "description": "Unix seconds."}
SENT_BOOLEAN: Schema = {"type": ["boolean", "string", "null"], "description": "true or false."}
SENT_NUMBER: Schema = {"type": ["number", "string", "null"]}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter."""

    name: str
    about: str = ""
    schema: Schema | None = None  # None: a string.


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One method of one address. Its summary in the document is the docstring of the view's method.

    The description and the example are in config.api_docs.
    """

    tag: str
    answers: Schema | None = None  # None: an empty body.
    status: int = 200
    sends: Schema | None = None  # None: no request body.
    # Status codes of errors, besides the common ones.
    refuses: tuple[int, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


def ref(name: str) -> Schema:
    """Return a reference to a named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema) -> Schema:
    """Return the schema, made nullable."""
    if isinstance(schema.get("type"), str) and "const" not in schema and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def const(value: str) -> Schema:
    return {"type": "string", "const": value}


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def array_schema(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def object_schema(kind: str = "", *, maybe: dict[str, Schema] | None = None, **fields: Schema) -> Schema:
    """Return the schema of a response object: all of `fields` are required, those of `maybe` are optional."""
    known = {"type": const(kind), **fields} if kind else fields
    return {
        "type": "object",
        "properties": {**known, **(maybe or {})},
        "required": list(known),
        "additionalProperties": False,
    }


def list_schema(kind: str, schema: Schema, *, key: str = "", **fields: Schema) -> Schema:
    """Return the schema of a list object: {"type": "tag.list", "tags": [...]}."""
    return object_schema(f"{kind}.list", **{key or f"{kind}s": array_schema(schema)}, **fields)


def page_of(kind: str, schema: Schema, *, key: str = "") -> Schema:
    """Return the schema of one page of a list."""
    return list_schema(kind, schema, key=key, pages=ref("Pages"), total_count=WHOLE)


def body_schema(*required: str, **fields: Schema) -> Schema:
    """Return the schema of a request body. Unknown fields are allowed and ignored."""
    body: Schema = {"type": "object", "properties": fields, "additionalProperties": True, "minProperties": 1}
    return {**body, "required": list(required)} if required else body


MAYBE_TEXT, MAYBE_MOMENT, MAYBE_WHOLE = or_null(TEXT), or_null(MOMENT), or_null(WHOLE)
PAGE = (
    Parameter("page", "Page number, starting at 1.", {"type": "integer", "minimum": 1}),
    Parameter("per_page", "Entries per page.", {"type": "integer", "minimum": 1}),
)
PERSON_PARAMETERS = (
    Parameter("user_id", "Your ID of a user."),
    Parameter("email", "Email address of a user."),
    Parameter("intercom_user_id", "Our ID of a user or lead."),
    Parameter("id", "Same as intercom_user_id."),
)
WARNINGS: dict[str, Schema] = {
    "warnings": {
        **array_schema(object_schema(code=const("attribute_not_stored"), message=TEXT, field=TEXT)),
        "description": "Custom attributes that were sent but not stored. Absent if all were stored.",
    }
}
