"""OpenAPI schemas, calls and addresses of the Outbound list."""

from audiences.api.base.endpoint import Endpoint
from audiences.api.base.openapi import (
    BOOLEAN,
    FREE,
    MOMENT,
    SENT_BOOLEAN,
    SENT_MOMENT,
    TEXT,
    TEXTUAL,
    WHOLE,
    Call,
    Schema,
    array_schema,
    body_schema,
    list_schema,
    object_schema,
    one_of,
    or_null,
    page_of,
    ref,
)
from delivery.eligibility.explain import Verdict
from delivery.models import Status
from delivery.reporting import counters
from messaging.models import Channel, Checking, Format, SendType, State, Style, WindowZone
from outbound.api import acts, review
from outbound.api.messages import ACTION_FOR_STATE, OneMessage, Outbound
from outbound.api.senders import Senders

HERE = "api/outbound/(?P<pk>[^/]+)"
ADDRESSES: dict[str, type[Endpoint]] = {
    "api/outbound": Outbound,
    HERE: OneMessage,
    f"{HERE}/preview": review.Preview,
    f"{HERE}/review": review.Review,
    f"{HERE}/why": review.Why,
    f"{HERE}/live": acts.SetLive,
    f"{HERE}/sample": acts.Sample,
    f"{HERE}/rest": acts.SendToRest,
    f"{HERE}/schedule": acts.Schedule,
    f"{HERE}/unschedule": acts.Unschedule,
    f"{HERE}/cancel": acts.CancelLaunch,
    f"{HERE}/pause": acts.Pause,
    f"{HERE}/resume": acts.Resume,
    f"{HERE}/stop": acts.Stop,
    "api/senders": Senders,
}
MAYBE_OBJECT: Schema = {"type": ["object", "null"], "additionalProperties": True}
SENDER = object_schema("sender", id=TEXT, name=TEXT, email=TEXT)
WRITABLE: dict[str, Schema] = {
    "title": TEXTUAL,
    "channel": one_of(*Channel.values),
    "format": or_null(one_of("", *Format.values)),
    "style": one_of(*Style.values),
    "send_type": one_of(*SendType.values),
    "sender": {"type": ["string", "integer", "object", "null"], "description": "The id of a sender, see /senders."},
    "subject": TEXTUAL,
    "body": TEXTUAL,
    "link": TEXTUAL,
    "rules": {**MAYBE_OBJECT, "description": 'The audience, `{"match": "all", "rules": [..]}`; `{}` is everyone.'},
    "window": {
        "type": ["array", "null"],
        "items": FREE,
        "description": 'Delivery times, `[{"weekday": 0, "from": "09:00", "to": "17:00"}]`; `[]` is always.',
    },
    "window_zone": one_of(*WindowZone.values),
    "during_quiet_hours": {**SENT_BOOLEAN, "description": "Send it also during the workspace’s quiet hours."},
    "checking": one_of(*Checking.values),
    "same_inbox_once": SENT_BOOLEAN,
    "shown_until": {
        **SENT_MOMENT,
        "description": "When an in-app message stops being shown, in Unix seconds; null is never.",
    },
    "tags": {
        "type": ["array", "object", "null"],
        "items": FREE,
        "description": "The names of its tags, or the object that the API returns. Changing them is not an edit.",
    },
    "topic": {**TEXTUAL, "description": "The name of a topic, locked once live; null is none."},
    "only_new_matches": {**SENT_BOOLEAN, "description": "Leave out the people who match at go-live."},
}
COUNTED = {
    "reviewed": {
        "type": ["integer", "null"],
        "description": "`reviewed` of the review. A drifted audience is refused.",
    },
    "confirm": {"type": ["integer", "string", "null"], "description": "`confirm` of the review, for a large audience."},
}
SCHEMAS: dict[str, Schema] = {
    "Message": object_schema(
        "message",
        id=TEXT,
        title=TEXT,
        channel=one_of(*Channel.values),
        format=or_null(TEXT),
        style=one_of(*Style.values),
        send_type=one_of(*SendType.values),
        state=one_of(*State.values),
        subject=TEXT,
        body=TEXT,
        link=TEXT,
        version=or_null(WHOLE),
        sender=or_null(SENDER),
        audience=or_null(TEXT),
        rules=FREE,
        window=array_schema(FREE),
        window_zone=one_of(*WindowZone.values),
        during_quiet_hours=BOOLEAN,
        checking=one_of(*Checking.values),
        same_inbox_once=BOOLEAN,
        per_company=BOOLEAN,
        only_new_matches=BOOLEAN,
        topic=or_null(TEXT),
        shown_until=or_null(MOMENT),
        to_customer=or_null(TEXT),
        to_company=or_null(TEXT),
        tags=list_schema("tag", ref("Tag")),
        trouble=or_null(TEXT),
        paused_because={**or_null(TEXT), "description": "Why the message paused itself; null if it did not."},
        scheduled_for=or_null(MOMENT),
        launching_at=or_null(MOMENT),
        sample_size=or_null(WHOLE),
        went_live_at=or_null(MOMENT),
        created_at=MOMENT,
        updated_at=MOMENT,
        counts=object_schema("", **{str(name): WHOLE for name in counters.COUNTED}),
    ),
    "MessagePreview": object_schema(
        "message.preview",
        id=TEXT,
        user=or_null(ref("PersonReference")),
        company_id=or_null(TEXT),
        subject=TEXT,
        html=TEXT,
        missing={**array_schema(TEXT), "description": "Variables without a value and without a default."},
    ),
    "MessageReview": object_schema(
        "message.review",
        id=TEXT,
        reviewed={**or_null(WHOLE), "description": "People who match now; null if the rules are invalid."},
        receiving={**WHOLE, "description": "People who can be reached."},
        copies=WHOLE,
        confirm={**or_null(WHOLE), "description": "The number to send as `confirm`; null if none is needed."},
        left_out=array_schema(object_schema(reason=TEXT, people=WHOLE)),
        sentences=array_schema(TEXT),
        problems=array_schema(object_schema(field=or_null(TEXT), message=TEXT)),
        warnings=array_schema(TEXT),
    ),
    "MessageWhy": object_schema(
        "message.why",
        id=TEXT,
        user=ref("PersonReference"),
        copies=array_schema(
            object_schema(
                company_id=or_null(TEXT),
                verdict=one_of(*Verdict),
                text=TEXT,
                status=or_null(one_of(*Status.values)),
                evaluations=array_schema(
                    object_schema(
                        company_id=or_null(TEXT),
                        matches=BOOLEAN,
                        rules=array_schema(
                            object_schema(
                                depth=WHOLE, joint=or_null(TEXT), text=TEXT, holds=BOOLEAN, value=or_null(TEXT)
                            )
                        ),
                    )
                ),
            )
        ),
        conditions=array_schema(object_schema(label=TEXT, holds=or_null(BOOLEAN), text=TEXT)),
    ),
}
MESSAGE = ref("Message")


def act(**fields: Schema) -> dict[str, Call]:
    """Return the calls of an act. Its body may be left out unless a field is required."""
    sends = {**body_schema(**fields), "minProperties": 0} if fields else None
    return {"post": Call(tag="Outbound", sends=sends, answers=MESSAGE, refuses=(409, 422))}


CALLS: dict[type[Endpoint], dict[str, Call]] = {
    Outbound: {
        "get": Call(tag="Outbound", answers=page_of("message", MESSAGE)),
        "post": Call(tag="Outbound", sends=body_schema(**WRITABLE), answers=MESSAGE),
    },
    OneMessage: {
        "get": Call(tag="Outbound", answers=MESSAGE),
        "patch": Call(
            tag="Outbound",
            sends=body_schema(**WRITABLE, state=one_of(*ACTION_FOR_STATE)),
            answers=MESSAGE,
        ),
    },
    review.Preview: {"get": Call(tag="Outbound", answers=ref("MessagePreview"))},
    review.Review: {"get": Call(tag="Outbound", answers=ref("MessageReview"))},
    review.Why: {"get": Call(tag="Outbound", answers=ref("MessageWhy"))},
    acts.SetLive: act(**COUNTED),
    acts.Sample: act(sample=WHOLE, **COUNTED),
    acts.SendToRest: act(**COUNTED),
    acts.Schedule: act(scheduled_for=SENT_MOMENT, **COUNTED),
    acts.Unschedule: act(),
    acts.CancelLaunch: act(),
    acts.Pause: act(),
    acts.Resume: act(),
    acts.Stop: act(),
    Senders: {"get": Call(tag="Outbound", answers=list_schema("sender", SENDER))},
}
