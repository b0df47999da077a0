"""OpenAPI schemas, calls and addresses of the Outbound list."""

from audiences.api.base.endpoint import Endpoint
from audiences.api.base.openapi import (
    BOOLEAN,
    MOMENT,
    TEXT,
    WHOLE,
    Call,
    Schema,
    body_schema,
    list_schema,
    object_schema,
    one_of,
    or_null,
    page_of,
    ref,
)
from delivery.reporting import counters
from messaging.models import Channel, SendType, State
from outbound.api.messages import ACTION_FOR_STATE, OneMessage, Outbound

ADDRESSES: dict[str, type[Endpoint]] = {
    "api/outbound": Outbound,
    "api/outbound/(?P<pk>[^/]+)": OneMessage,
}
SCHEMAS: dict[str, Schema] = {
    "Message": object_schema(
        "message",
        id=TEXT,
        title=TEXT,
        channel=one_of(*Channel.values),
        format=or_null(TEXT),
        send_type=one_of(*SendType.values),
        state=one_of(*State.values),
        subject=TEXT,
        body=TEXT,
        sender=or_null(object_schema("sender", id=TEXT, name=TEXT, email=TEXT)),
        audience=or_null(TEXT),
        per_company=BOOLEAN,
        only_new_matches=BOOLEAN,
        to_customer=or_null(TEXT),
        to_company=or_null(TEXT),
        tags=list_schema("tag", ref("Tag")),
        trouble=or_null(TEXT),
        scheduled_for=or_null(MOMENT),
        went_live_at=or_null(MOMENT),
        created_at=MOMENT,
        updated_at=MOMENT,
        counts=object_schema("", **{str(name): WHOLE for name in counters.COUNTED}),
    )
}
CALLS: dict[type[Endpoint], dict[str, Call]] = {
    Outbound: {
        "get": Call(
            tag="Outbound",
            answers=page_of("message", ref("Message")),
        )
    },
    OneMessage: {
        "get": Call(tag="Outbound", answers=ref("Message")),
        "patch": Call(
            tag="Outbound",
            sends=body_schema(title=TEXT, state=one_of(*ACTION_FOR_STATE)),
            answers=ref("Message"),
            more="A change to a field that is locked once live is a 409 `conflict`; `field` names it.",
        ),
    },
}
