"""OpenAPI schemas of the calls about messages and conversations (wire 5.5 to 5.13)."""

from audiences.api.base.endpoint import Endpoint
from audiences.api.base.openapi import (
    BOOLEAN,
    FREE,
    MAYBE_MOMENT,
    MAYBE_TEXT,
    MAYBE_WHOLE,
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
    const,
    list_schema,
    object_schema,
    one_of,
    or_null,
    page_of,
    ref,
)
from audiences.api.counts import TOTAL_COUNTS
from audiences.api.schema import NAMED
from audiences.models import Topic
from delivery.api import conversations, counts, jobs, messages, people, replies, subscriptions
from delivery.conversations.payloads import MESSAGE_TYPES
from delivery.models import PartType, Status

ADMIN_REFERENCE = object_schema("admin", id=MAYBE_TEXT)
AUTHOR = {"anyOf": [ref("PersonReference"), ADMIN_REFERENCE]}
FILES = array_schema(ref("Attachment"))
CONVERSATION: dict[str, Schema] = {
    "id": TEXT,
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "waiting_since": MAYBE_MOMENT,
    "snoozed_until": MAYBE_MOMENT,
    "sent_at": MAYBE_MOMENT,
    "user": ref("PersonReference"),
    "customers": array_schema(ref("PersonReference")),
    "customer_first_reply": or_null(object_schema("conversation", created_at=MOMENT, url=MAYBE_TEXT)),
    "assignee": {"anyOf": [ADMIN_REFERENCE, object_schema("nobody_admin", id={"type": "null"})]},
    "conversation_message": object_schema(
        type=one_of(*sorted(MESSAGE_TYPES.values())),
        id=TEXT,
        subject=TEXT,
        body=TEXT,
        delivered_as=one_of("customer_initiated", "admin_initiated", "automated"),
        author=AUTHOR,
        attachments=FILES,
        url=MAYBE_TEXT,
    ),
    "open": BOOLEAN,
    "state": one_of("open", "closed", "snoozed"),
    "read": BOOLEAN,
    "tags": list_schema("tag", ref("Tag")),
}
SUBSCRIPTION: dict[str, Schema] = {
    "id": TEXT,
    "service_type": const("web"),
    "url": TEXT,
    "topics": array_schema(one_of(*Topic.values)),
    "active": BOOLEAN,
    "failing_since": MAYBE_MOMENT,
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "links": object_schema(self=TEXT, sent=TEXT, error=TEXT, ping=TEXT),
}
SUBSCRIPTION_SENT = {
    "url": TEXT,
    "topics": array_schema(one_of(*Topic.values)),
    "hub_secret": TEXTUAL,
    "active": SENT_BOOLEAN,
}
NULL: Schema = {"type": "null"}
OWNER = object_schema("admin", id=MAYBE_TEXT, name=TEXT, email=MAYBE_TEXT)
SCHEMAS: dict[str, Schema] = {
    "Attachment": object_schema(
        "upload",
        name=MAYBE_TEXT,
        url=MAYBE_TEXT,
        content_type=MAYBE_TEXT,
        filesize=MAYBE_WHOLE,
        width=MAYBE_WHOLE,
        height=MAYBE_WHOLE,
    ),
    "ConversationPart": object_schema(
        "conversation_part",
        id=TEXT,
        part_type=one_of(*PartType.values),
        body=MAYBE_TEXT,
        body_that_may_be_quoted=MAYBE_TEXT,
        created_at=MOMENT,
        updated_at=MOMENT,
        notified_at=MOMENT,
        assigned_to=or_null(ADMIN_REFERENCE),
        author=AUTHOR,
        attachments=FILES,
        external_id=MAYBE_TEXT,
    ),
    "ListedConversation": object_schema("conversation", **CONVERSATION),
    "Conversation": object_schema(
        "conversation",
        **CONVERSATION,
        conversation_parts=list_schema("conversation_part", ref("ConversationPart"), total_count=WHOLE),
        conversation_rating=object_schema(
            rating=NULL,
            remark=NULL,
            created_at=NULL,
            customer=object_schema(type=NULL, id=NULL),
            teammate=object_schema(type=NULL, id=NULL),
        ),
    ),
    "Job": object_schema(
        "job",
        app_id=TEXT,
        id=TEXT,
        name=TEXT,
        state=one_of("running", "completed"),
        created_at=MOMENT,
        updated_at=MOMENT,
        completed_at=MAYBE_MOMENT,
        closing_at=MOMENT,
        links=object_schema(self=TEXT, error=TEXT),
        tasks=array_schema(
            object_schema(
                id=TEXT,
                item_count=WHOLE,
                state=one_of("pending", "running", "completed"),
                created_at=MOMENT,
                started_at=MAYBE_MOMENT,
                completed_at=MAYBE_MOMENT,
            )
        ),
    ),
    "Subscription": object_schema("notification_subscription", **SUBSCRIPTION),
    "Notification": object_schema(
        "notification_event",
        id=TEXT,
        topic=one_of(*Topic.values),
        app_id=TEXT,
        data=object_schema("notification_event_data", item={"type": ["object", "null"], "additionalProperties": True}),
        delivery_attempts=WHOLE,
        first_sent_at=MAYBE_MOMENT,
        created_at=MOMENT,
        delivery_status=one_of("waiting", "sending", "delivered", "failed"),
        response_status=MAYBE_WHOLE,
        detail=MAYBE_TEXT,
        next_attempt_at=MAYBE_MOMENT,
        delivered_at=MAYBE_MOMENT,
    ),
    "Reply": body_schema(
        type=one_of("user", "admin", "contact", "lead"),
        message_type=one_of(*replies.ACTIONS),
        body=TEXTUAL,
        admin_id=TEXTUAL,
        assignee_id=TEXTUAL,
        snoozed_until=SENT_MOMENT,
        user_id=TEXTUAL,
        email=TEXTUAL,
        intercom_user_id=TEXTUAL,
        attachment_urls={**array_schema({**TEXT, "format": "uri"}), "maxItems": replies.MAX_ATTACHMENTS},
    ),
    "AdminMessage": object_schema(
        "admin_message",
        id=TEXT,
        created_at=MOMENT,
        message_type=one_of(*messages.KINDS),
        body=TEXT,
        owner=OWNER,
        to=ref("PersonReference"),
        status=one_of(*Status.values),
        reason=MAYBE_TEXT,
        **dict.fromkeys(messages.RECORD_TIMES, MAYBE_MOMENT),
        conversation_id=MAYBE_TEXT,
        links=object_schema(self=TEXT),
        maybe={"subject": TEXT, "template": TEXT},
    ),
    "UserMessage": object_schema(
        "user_message",
        id=TEXT,
        created_at=MOMENT,
        body=TEXT,
        message_type=const("inapp"),
        author=ref("PersonReference"),
        conversation_id=TEXT,
        links=object_schema(self=TEXT),
    ),
    "Read": body_schema("read", read=SENT_BOOLEAN),
}
CONVERSATION_WITH_PARTS = ref("Conversation")
MARK_READ = Call(tag="Conversations", sends=ref("Read"), answers=CONVERSATION_WITH_PARTS)
LOG = Call(
    tag="Subscriptions",
    answers=page_of("notification_event", ref("Notification"), key="items"),
)
CHANGED = Call(tag="Subscriptions", sends=body_schema(**SUBSCRIPTION_SENT), answers=ref("Subscription"))
SUBSCRIBED = Call(tag="Subscriptions", answers=ref("Subscription"))
VISITOR_HERE = Call(tag="Leads", answers=ref("Person"))
VISITOR_CHANGED = Call(tag="Leads", sends=ref("PersonFacts"), answers=ref("Person"))

COUNT = object_schema(count=WHOLE)
COUNTS_BY_NAME = array_schema({"type": "object", "additionalProperties": WHOLE})
COUNTS = Call(
    tag="Counts",
    answers={
        "anyOf": [
            object_schema("count.hash", company=COUNT, user=COUNT, lead=COUNT, tag=COUNT, segment=COUNT),
            object_schema("count", user=object_schema(segment=COUNTS_BY_NAME)),
            object_schema("count", user=object_schema(tag=COUNTS_BY_NAME)),
            object_schema("count", company=object_schema(segment=COUNTS_BY_NAME)),
            object_schema("count", company=object_schema(tag=COUNTS_BY_NAME)),
            object_schema("count", company=object_schema(user=COUNTS_BY_NAME)),
            *(object_schema("count", **{kind: COUNT}) for kind in TOTAL_COUNTS),
            object_schema(
                "count", conversation=object_schema(assigned=WHOLE, unassigned=WHOLE, open=WHOLE, closed=WHOLE)
            ),
            object_schema(
                "count",
                conversation=object_schema(
                    admin=array_schema(object_schema(id=TEXT, name=TEXT, open=WHOLE, closed=WHOLE))
                ),
            ),
        ]
    },
)


def bulk(*methods: str, data_type: str, data: Schema) -> Call:
    item = body_schema(method=one_of(*methods), data_type=const(data_type), data=data)
    items = {**array_schema(item), "minItems": 1, "maxItems": 1000}
    return Call(tag="Bulk", sends=body_schema("items", items=items, job=body_schema(id=TEXTUAL)), answers=ref("Job"))


CALLS: dict[type[Endpoint], dict[str, Call]] = {
    conversations.Conversations: {
        "get": Call(
            tag="Conversations",
            answers=list_schema("conversation", ref("ListedConversation"), pages=ref("Pages")),
            headers=(
                ("X-Outbound-Matching", "`ran` or `limited`, for one user."),
                ("X-Outbound-Matching-Next", "When matching may run again, in unix seconds."),
            ),
        )
    },
    conversations.OneConversation: {
        "get": Call(tag="Conversations", answers=CONVERSATION_WITH_PARTS),
        "put": MARK_READ,
    },
    replies.Reply: {
        "post": Call(
            tag="Conversations",
            sends=ref("Reply"),
            answers=CONVERSATION_WITH_PARTS,
            refuses=(403,),
        ),
        "put": MARK_READ,
    },
    messages.Messages: {
        "post": Call(
            tag="Messages",
            sends=body_schema(
                "from",
                **{"from": body_schema(type=one_of("admin", "user", "contact", "lead"), **NAMED)},
                to=ref("PersonNamed"),
                message_type=one_of(*messages.KINDS),
                subject=TEXTUAL,
                body=TEXTUAL,
                template=one_of(*messages.TEMPLATES),
                link=TEXTUAL,
                company_id=TEXTUAL,
            ),
            answers={"anyOf": [ref("AdminMessage"), ref("UserMessage")]},
            refuses=(403,),
        )
    },
    messages.OneMessage: {"get": Call(tag="Messages", answers={"anyOf": [ref("AdminMessage"), ref("UserMessage")]})},
    counts.AllCounts: {"get": COUNTS},
    people.ConvertLead: {
        "post": Call(
            tag="Leads",
            sends=body_schema("contact", "user", contact=ref("PersonNamed"), user=ref("PersonFacts")),
            answers=ref("Person"),
        )
    },
    people.Visitors: {
        "get": Call(tag="Leads", answers=ref("Person")),
        "put": VISITOR_CHANGED,
        "post": VISITOR_CHANGED,
    },
    people.Visitor: {"get": VISITOR_HERE, "put": VISITOR_CHANGED, "delete": VISITOR_HERE},
    people.ConvertVisitor: {
        "post": Call(
            tag="Leads",
            sends=body_schema(
                "visitor",
                visitor=ref("PersonNamed"),
                user=ref("PersonFacts"),
                type=one_of("user", "lead"),
            ),
            answers=ref("Person"),
        )
    },
    people.UserDeleteRequests: {
        "post": Call(
            tag="Users",
            sends=body_schema("intercom_user_id", intercom_user_id=TEXTUAL, id=TEXTUAL),
            answers=object_schema(id=TEXT),
        )
    },
    jobs.BulkUsers: {"post": bulk("post", "delete", data_type="user", data=ref("PersonFacts"))},
    jobs.BulkEvents: {"post": bulk("post", data_type="event", data=ref("EventFacts"))},
    jobs.Jobs: {"get": Call(tag="Bulk", answers=page_of("job", ref("Job")))},
    jobs.OneJob: {"get": Call(tag="Bulk", answers=ref("Job"))},
    jobs.JobErrors: {
        "get": Call(
            tag="Bulk",
            answers=page_of(
                "job_item",
                object_schema(
                    "job_item",
                    id=TEXT,
                    method=TEXT,
                    data_type=TEXT,
                    data=FREE,
                    error=object_schema(code=TEXT, message=TEXT),
                ),
                key="items",
            ),
        )
    },
    subscriptions.Subscriptions: {
        "post": Call(
            tag="Subscriptions",
            sends=body_schema("url", "topics", **SUBSCRIPTION_SENT),
            answers=object_schema("notification_subscription", **SUBSCRIPTION, hub_secret=TEXT, signing_secret=TEXT),
        ),
        "get": Call(
            tag="Subscriptions",
            answers=list_schema(
                "notification_subscription",
                ref("Subscription"),
                key="items",
                subscriptions=array_schema(ref("Subscription")),
                pages=ref("Pages"),
                total_count=WHOLE,
            ),
        ),
    },
    subscriptions.OneSubscription: {"get": SUBSCRIBED, "put": CHANGED, "post": CHANGED, "delete": SUBSCRIBED},
    subscriptions.Ping: {"post": SUBSCRIBED},
    subscriptions.Sent: {"get": LOG},
    subscriptions.Failures: {"get": LOG},
}
