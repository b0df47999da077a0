"""How the calls of the API are described: pieces of JSON Schema, and what one call takes and answers.

The descriptions stand in tables beside the endpoints (`documented`); config.openapi makes one document of all of them.
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
# What the API reads as one text: a number becomes text, null is none.
TEXTUAL: Schema = {"type": ["string", "number", "null"]}
SENT_MOMENT: Schema = {"type": ["integer", "string", "null"], "description": "Unix seconds."}
SENT_BOOLEAN: Schema = {"type": ["boolean", "string", "null"], "description": "true or false."}
SENT_NUMBER: Schema = {"type": ["number", "string", "null"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """Something that can be asked for in the query."""

    name: str
    about: str = ""
    schema: Schema | None = None  # None: a text.


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One method of one address. The summary is the docstring of the method."""

    tag: str
    answers: Schema | None = None  # None: an empty body.
    status: int = 200
    sends: Schema | None = None  # None: takes no body.
    more: str = ""
    # Errors beside those every call of its kind may answer.
    refuses: tuple[int, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


def ref(name: str) -> Schema:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema) -> Schema:
    """The same or null."""
    if isinstance(schema.get("type"), str) and "const" not in schema and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def const(value: str) -> Schema:
    """Just this text."""
    return {"type": "string", "const": value}


def one_of(*values: str) -> Schema:
    """One of these texts."""
    return {"type": "string", "enum": list(values)}


def many(schema: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": schema}


def shape(kind: str = "", *, maybe: dict[str, Schema] | None = None, **fields: Schema) -> Schema:
    """What is answered: all of these fields, perhaps those of `maybe`, and no others."""
    known = {"type": const(kind), **fields} if kind else fields
    return {
        "type": "object",
        "properties": {**known, **(maybe or {})},
        "required": list(known),
        "additionalProperties": False,
    }


def listed(kind: str, schema: Schema, *, key: str = "", **fields: Schema) -> Schema:
    """A list as it stands inside other shapes."""
    return shape(f"{kind}.list", **{key or f"{kind}s": many(schema)}, **fields)


def page_of(kind: str, schema: Schema, *, key: str = "") -> Schema:
    """A page of a list."""
    return listed(kind, schema, key=key, pages=ref("Pages"), total_count=WHOLE)


def sent(*required: str, **fields: Schema) -> Schema:
    """What is sent: any of these fields, the required ones among them; others are ignored."""
    body: Schema = {"type": "object", "properties": fields, "additionalProperties": True, "minProperties": 1}
    return {**body, "required": list(required)} if required else body


def asked(name: str, about: str = "", schema: Schema | None = None) -> Parameter:
    """Something that can be asked for in the query."""
    return Parameter(name=name, about=about, schema=schema)


MAYBE_TEXT, MAYBE_MOMENT, MAYBE_WHOLE = or_null(TEXT), or_null(MOMENT), or_null(WHOLE)
PAGE = (
    asked("page", "Which page, from 1.", {"type": "integer", "minimum": 1}),
    asked("per_page", "How many on a page.", {"type": "integer", "minimum": 1}),
)
WHO = (
    asked("user_id", "A user, by your id."),
    asked("email", "A user, by email."),
    asked("intercom_user_id", "A user or lead, by our id."),
    asked("id", "The same as intercom_user_id."),
)
WARNINGS: dict[str, Schema] = {
    "warnings": {
        **many(shape(code=const("attribute_not_stored"), message=TEXT, field=TEXT)),
        "description": "The custom attributes that were sent and not stored; not there if all were.",
    }
}
