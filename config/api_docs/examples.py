"""Examples of the OpenAPI document: the body of each operation that has one, and values for responses by their keys."""

from collections.abc import Mapping
from typing import Any

from audiences.api.base.openapi import Schema

LEAD = {"user_id": "lead-17"}
USER = {"user_id": "25", "email": "joe@example.com", "name": "Joe"}
READ = {"read": True}
WEBHOOK = {"url": "https://shop.example.com/hooks", "topics": ["message.sent", "conversation.user.replied"]}
CONFIRMED = {"reviewed": 1240, "confirm": 1198}

BODIES: dict[str, dict[str, Any]] = {
    "POST /users": {
        **USER,
        "signed_up_at": 1799990000,
        "custom_attributes": {"plan": "pro", "seats": 5},
        "companies": [{"company_id": "6", "name": "Acme"}],
    },
    "POST /contacts": {"email": "lee@example.com", "name": "Lee"},
    "PUT /contacts/{id}": {"phone": "+353 1 234 5678"},
    "POST /contacts/{id}/subscriptions": {"id": "3", "consent_type": "opt_out"},
    "POST /customers/search": {"query": {"field": "email", "operator": "=", "value": "joe@example.com"}},
    "POST /companies": {"company_id": "6", "name": "Acme", "plan": "Pro", "monthly_spend": 49, "size": 85},
    "POST /events": {
        "event_name": "ordered-item",
        "user_id": "25",
        "created_at": 1799990000,
        "metadata": {"order": "3434", "price": {"amount": 4900, "currency": "eur"}},
    },
    "POST /tags": {"name": "beta", "users": [{"user_id": "25"}, {"user_id": "26", "untag": True}]},
    "POST /devices": {"token": "fcm-token-of-the-device", "platform": "android", "user_id": "25"},
    "POST /notes": {"body": "Prefers calls.", "admin_id": "3", "user": {"user_id": "25"}},
    "PUT /conversations/{id}": READ,
    "PUT /conversations/{id}/reply": READ,
    "POST /conversations/{id}/reply": {
        "type": "admin",
        "admin_id": "3",
        "message_type": "comment",
        "body": "<p>Done, thank you.</p>",
    },
    "POST /messages": {
        "message_type": "email",
        "subject": "Your order",
        "body": '<p>Hello {{ first_name | default: "there" }}, it is on its way.</p>',
        "from": {"type": "admin", "id": "3"},
        "to": {"type": "user", "user_id": "25"},
    },
    "POST /contacts/convert": {"contact": LEAD, "user": USER},
    "PUT /visitors": {"id": "17", "name": "Lee"},
    "POST /visitors": {"id": "17", "name": "Lee"},
    "POST /visitors/convert": {"visitor": {"id": "17"}, "user": USER, "type": "user"},
    "PUT /visitors/{id}": {"name": "Lee"},
    "POST /user_delete_requests": {"intercom_user_id": "17"},
    "POST /bulk/users": {
        "items": [
            {"method": "post", "data_type": "user", "data": USER},
            {"method": "delete", "data_type": "user", "data": {"user_id": "26"}},
        ]
    },
    "POST /bulk/events": {
        "items": [
            {
                "method": "post",
                "data_type": "event",
                "data": {"event_name": "ordered-item", "user_id": "25", "created_at": 1799990000},
            }
        ]
    },
    "POST /subscriptions": WEBHOOK,
    "PUT /subscriptions/{id}": {"active": False},
    "POST /subscriptions/{id}": {"topics": ["message.sent"]},
    "POST /outbound": {
        "title": "Welcome",
        "channel": "email",
        "send_type": "ongoing",
        "subject": "Welcome",
        "body": '<p>Hello {{ first_name | default: "there" }}</p>',
        "rules": {
            "match": "all",
            "rules": [{"attribute": "session_count", "operator": "less_than", "value": 5}],
        },
    },
    "PATCH /outbound/{id}": {"subject": "Welcome to Acme"},
    "POST /outbound/{id}/live": CONFIRMED,
    "POST /outbound/{id}/sample": {"sample": 50},
    "POST /outbound/{id}/rest": CONFIRMED,
    "POST /outbound/{id}/schedule": {"scheduled_for": 1799999999, **CONFIRMED},
}
MOMENT = 1799990000
# Values by key, or by the type of the object and key.
VALUES: dict[str, Any] = {
    "id": "17",
    "user_id": "25",
    "email": "joe@example.com",
    "name": "Joe",
    "phone": "+353 1 234 5678",
    "company_id": "6",
    "company.name": "Acme",
    "company.id": "4",
    "conversation.id": "5001",
    "conversation_message.id": "msg_9001",
    "conversation_id": "5001",
    "admin_message.id": "msg_9001",
    "user_message.id": "umsg_5001",
    "message.id": "msg_12",
    "message.preview.id": "msg_12",
    "message.review.id": "msg_12",
    "message.why.id": "msg_12",
    "admin.id": "3",
    "admin.name": "Ada Byron",
    "admin.email": "ada@acme.example",
    "sender.id": "2",
    "sender.name": "Ada from Acme",
    "sender.email": "ada@acme.example",
    "tag.id": "8",
    "tag.name": "beta",
    "subscription.id": "3",
    "default_translation": {"name": "Tips", "description": "How to get more out of Acme.", "locale": "en"},
    "translations": [{"name": "Tips", "description": "How to get more out of Acme.", "locale": "en"}],
    "content_types": ["email", "in_app", "push"],
    "segment.id": "5",
    "segment.name": "Active",
    "plan.id": "Pro",
    "plan.name": "Pro",
    "app_id": "outbound",
    "id_code": "outbound",
    "app.name": "Acme",
    "integration.name": "The shop",
    "timezone": "Europe/Dublin",
    "subject": "Your order",
    "body": "<p>Hello Joe, it is on its way.</p>",
    "html": "<p>Hello Joe, it is on its way.</p>",
    "title": "Welcome",
    "topics": ["message.sent", "conversation.user.replied"],
    "url": "https://shop.example.com/hooks",
    "self": "https://outbound.example.com/api/messages/msg_9001",
    "event_name": "ordered-item",
    "field": "user_id",
    "code": "not_found",
    "message": "No such user_id[314]",
    "token": "fcm-token-of-the-device",
    "scroll_param": "MTc:1aBcDe:signature",
    "next": "https://outbound.example.com/api/users?page=2&per_page=50",
    "starting_after": "17",
    "image_url": None,
    "custom_attributes": {"plan": "pro", "seats": 5},
    "metadata": {"order": "3434"},
    "message.rules": {"match": "all", "rules": []},
    "message.topic": "Tips",
    "message.window": [],
    "reviewed": 1240,
    "receiving": 1198,
    "confirm": 1198,
    "people": 42,
    "reason": "Unsubscribed from emails",
    "per_page": 50,
    "page": 1,
    "total_pages": 7,
    "first": "2026-11-20T09:30:00.000+00:00",
    "last": "2026-11-26T17:05:00.000+00:00",
}


def example_of(schema: Schema, *, schemas: Mapping[str, Schema], key: str = "", kind: str = "") -> Any:
    """Return a value that the schema allows; `key` and the type of the object around it choose the value."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas=schemas, key=key, kind=kind)
    if "const" in schema:
        return schema["const"]
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], schemas=schemas, key=key, kind=kind)
    named = f"{kind}.{key}" if f"{kind}.{key}" in VALUES else key
    types = schema.get("type", "null")
    first = types if isinstance(types, str) else types[0]
    if named in VALUES and fits(VALUES[named], types):
        return VALUES[named]
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" in schema:
        own = schema["properties"].get("type", {}).get("const", "")
        return {
            name: example_of(schema["properties"][name], schemas=schemas, key=name, kind=own)
            for name in schema.get("required") or schema["properties"]
        }
    if first == "array":
        return [example_of(schema["items"], schemas=schemas, key=key, kind=kind)]
    if first == "integer" and (key.endswith("_at") or "Unix" in schema.get("description", "")):
        return MOMENT
    plain: dict[str, Any] = {"string": "", "integer": 1, "number": 1.5, "boolean": False, "object": {}, "null": None}
    return key.replace("_", " ") if first == "string" else plain[first]


TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}


def fits(value: object, types: str | list[str]) -> bool:
    """Return whether a value has one of the schema's types."""
    return any(isinstance(value, TYPES[name]) for name in ([types] if isinstance(types, str) else types))
