"""OpenAPI schemas and calls of the endpoints in this app (wire 5.10 to 5.13).

Over 120 lines because it is one table.
"""

from audiences.api import (
    companies,
    counts,
    devices,
    events,
    leads,
    me,
    notes,
    scrolling,
    search,
    segments,
    tags,
    topics,
    users,
)
from audiences.api.base.endpoint import Endpoint
from audiences.api.base.openapi import (
    BOOLEAN,
    FREE,
    MAYBE_MOMENT,
    MAYBE_TEXT,
    MOMENT,
    NUMBER,
    SENT_BOOLEAN,
    SENT_MOMENT,
    SENT_NUMBER,
    TEXT,
    TEXTUAL,
    WARNINGS,
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
from audiences.intake import companies as company_facts
from audiences.intake import customer_fields
from audiences.intake.attributes.fields import Reader, read_integer, read_moment, read_number, read_seconds
from audiences.models.workspace import TokenRight

MAYBE_OBJECT: Schema = {"type": ["object", "null"], "additionalProperties": True}
TEXT_OR_OBJECT: Schema = {"type": ["string", "object", "null"]}
# The schemas of fields that are not texts, by their readers.
SENT_BY_READER: dict[Reader, Schema] = {
    read_moment: SENT_MOMENT,
    read_seconds: SENT_MOMENT,
    read_number: SENT_NUMBER,
    read_integer: SENT_NUMBER,
    company_facts.read_plan: TEXT_OR_OBJECT,
}


def sent_fields(*tables: tuple[tuple[str, str, Reader], ...]) -> dict[str, Schema]:
    """Return the schemas of the fields that these tables of intake read."""
    return {field: SENT_BY_READER.get(read, TEXTUAL) for table in tables for field, _, read in table}


AVATAR = object_schema("avatar", image_url=MAYBE_TEXT)
TAGS = list_schema("tag", ref("Tag"))
TRANSLATION = object_schema("", name=TEXT, description=TEXT, locale=TEXT)
TOPICS = object_schema("list", data=array_schema(ref("SubscriptionType")))
SEGMENTS = list_schema("segment", ref("Segment"))
COMPANY = {"company_id": TEXT, "id": TEXT, "name": MAYBE_TEXT}
LOCATION_FIELDS = (
    "city_name",
    "country_name",
    "region_name",
    "timezone",
    "continent_code",
    "country_code",
    "postal_code",
)
UTM = {f"utm_{part}": MAYBE_TEXT for part in ("campaign", "content", "medium", "source", "term")}

# The keys that identify a person.
NAMED: dict[str, Schema] = dict.fromkeys(("id", "user_id", "email", "intercom_user_id"), TEXTUAL)
PLATFORM = one_of("android", "ios", "web")

PERSON: dict[str, Schema] = {
    "id": TEXT,
    "user_id": MAYBE_TEXT,
    "anonymous": BOOLEAN,
    "email": MAYBE_TEXT,
    "phone": MAYBE_TEXT,
    "name": MAYBE_TEXT,
    "pseudonym": MAYBE_TEXT,
    "avatar": AVATAR,
    "app_id": TEXT,
    "companies": list_schema("company", object_schema("company", **COMPANY), key="companies"),
    "location_data": object_schema(
        "location_data",
        **dict.fromkeys(LOCATION_FIELDS, MAYBE_TEXT),
        latitude=or_null(NUMBER),
        longitude=or_null(NUMBER),
    ),
    "last_request_at": MAYBE_MOMENT,
    "last_seen_ip": MAYBE_TEXT,
    "created_at": MOMENT,
    "remote_created_at": MAYBE_MOMENT,
    "signed_up_at": MAYBE_MOMENT,
    "updated_at": MOMENT,
    "session_count": WHOLE,
    "social_profiles": list_schema("social_profile", FREE),
    "unsubscribed_from_emails": BOOLEAN,
    "marked_email_as_spam": BOOLEAN,
    "has_hard_bounced": BOOLEAN,
    "user_agent_data": MAYBE_TEXT,
    "tags": TAGS,
    "segments": SEGMENTS,
    "referrer": MAYBE_TEXT,
    **UTM,
    "owner_id": MAYBE_TEXT,
    "custom_attributes": FREE,
}
ADMIN: dict[str, Schema] = {
    "id": TEXT,
    "name": TEXT,
    "email": MAYBE_TEXT,
    "away_mode_enabled": BOOLEAN,
    "avatar": AVATAR,
    "team_ids": array_schema(TEXT),
}
APP = object_schema("app", id_code=TEXT, name=TEXT, timezone=TEXT, identity_verification=BOOLEAN)
TOKEN_FIELDS: dict[str, Schema] = {"id": TEXT, "name": TEXT, "rights": array_schema(one_of(*TokenRight.values))}
INTEGRATION = object_schema("integration", **TOKEN_FIELDS)
FOUND_VALUE: Schema = {"type": ["string", "number", "boolean"]}
SCHEMAS: dict[str, Schema] = {
    "ErrorList": object_schema(
        "error.list",
        request_id=TEXT,
        errors=array_schema(object_schema(code=TEXT, message=TEXT, maybe={"field": TEXT})),
    ),
    "Pages": object_schema("pages", next=MAYBE_TEXT, page=WHOLE, per_page=WHOLE, total_pages=WHOLE),
    "CursorPages": object_schema(
        "pages",
        next=or_null(object_schema(page=WHOLE, starting_after=TEXT)),
        page=WHOLE,
        per_page=WHOLE,
        total_pages=WHOLE,
    ),
    "Tag": object_schema("tag", id=TEXT, name=TEXT),
    "Segment": object_schema(
        "segment",
        id=TEXT,
        name=TEXT,
        created_at=MOMENT,
        updated_at=MOMENT,
        person_type=const("user"),
        maybe={"count": {**or_null(WHOLE), "description": "Null if counting took too long."}},
    ),
    "SubscriptionType": object_schema(
        "subscription",
        id=TEXT,
        state=one_of(*topics.STATES.values()),
        consent_type=const(topics.CONSENT_TYPE),
        default_translation=TRANSLATION,
        translations=array_schema(TRANSLATION),
        content_types=array_schema(one_of(*topics.CONTENT_TYPES)),
    ),
    "User": object_schema("user", maybe=WARNINGS, **PERSON),
    "Contact": object_schema("contact", maybe=WARNINGS, **PERSON),
    "Person": {"anyOf": [ref("User"), ref("Contact")]},
    "PersonReference": object_schema(type=one_of("user", "lead"), id=TEXT),
    "Company": object_schema(
        "company",
        **COMPANY,
        app_id=TEXT,
        plan=or_null(object_schema("plan", id=TEXT, name=TEXT)),
        remote_created_at=MAYBE_MOMENT,
        created_at=MOMENT,
        updated_at=MOMENT,
        last_request_at=MAYBE_MOMENT,
        monthly_spend=or_null(WHOLE),
        session_count=WHOLE,
        user_count=WHOLE,
        size=or_null(WHOLE),
        website=MAYBE_TEXT,
        industry=MAYBE_TEXT,
        tags=TAGS,
        segments=SEGMENTS,
        custom_attributes=FREE,
        maybe=WARNINGS,
    ),
    "Admin": object_schema("admin", **ADMIN),
    "Note": object_schema(
        "note",
        id=TEXT,
        created_at=MOMENT,
        body=TEXT,
        author=or_null(ref("Admin")),
        user=object_schema(type=one_of("user", "lead"), id=TEXT, user_id=MAYBE_TEXT, email=MAYBE_TEXT),
    ),
    "Device": object_schema(
        "device",
        id=TEXT,
        token=TEXT,
        platform=PLATFORM,
        created_at=MOMENT,
        retired_at=MAYBE_MOMENT,
        user=object_schema(type=one_of("user", "lead"), id=TEXT, user_id=MAYBE_TEXT, email=MAYBE_TEXT),
    ),
    "Event": object_schema(
        "event",
        id=TEXT,
        event_name=TEXT,
        created_at=MOMENT,
        user_id=MAYBE_TEXT,
        email=MAYBE_TEXT,
        intercom_user_id=TEXT,
        metadata=FREE,
    ),
    "EventSummary": object_schema(
        "event.summary",
        user_id=MAYBE_TEXT,
        email=MAYBE_TEXT,
        intercom_user_id=TEXT,
        events=array_schema(object_schema(name=TEXT, first=TEXT, last=TEXT, count=WHOLE, description=MAYBE_TEXT)),
    ),
    "CompanyFacts": body_schema(
        type=TEXTUAL,
        company_id=TEXTUAL,
        id=TEXTUAL,
        **sent_fields(company_facts.COLUMNS),
        custom_attributes=MAYBE_OBJECT,
        remove=SENT_BOOLEAN,
    ),
    "PersonFacts": body_schema(
        type=TEXTUAL,
        id=TEXTUAL,
        user_id=TEXTUAL,
        **sent_fields(customer_fields.COLUMNS, customer_fields.DETAIL_FIELDS),
        avatar=TEXT_OR_OBJECT,
        unsubscribed_from_emails=SENT_BOOLEAN,
        update_last_request_at=SENT_BOOLEAN,
        new_session=SENT_BOOLEAN,
        location_data={
            **MAYBE_OBJECT,
            "properties": {
                "type": TEXTUAL,
                **sent_fields(customer_fields.LOCATION_COLUMNS, customer_fields.LOCATION_DETAILS),
            },
        },
        custom_attributes=MAYBE_OBJECT,
        companies=array_schema(ref("CompanyFacts")),
    ),
    "EventFacts": body_schema(
        "event_name",
        event_name=TEXTUAL,
        created_at=SENT_MOMENT,
        **NAMED,
        metadata=MAYBE_OBJECT,
    ),
    "PersonNamed": body_schema(type=TEXTUAL, **NAMED),
}

USER_PAGE = page_of("user", ref("User"))
PERSON_ANSWER = Call(tag="Users", answers=ref("Person"))
LEAD_ANSWER = Call(tag="Leads", answers=ref("Contact"))
NOTE_ANSWER = Call(tag="Notes", answers=ref("Note"))
COMPANY_ANSWER = Call(tag="Companies", answers=ref("Company"))

CALLS: dict[type[Endpoint], dict[str, Call]] = {
    users.Users: {
        "post": Call(
            tag="Users",
            sends=ref("PersonFacts"),
            answers=ref("Person"),
        ),
        "get": Call(
            tag="Users",
            answers={"anyOf": [ref("Person"), USER_PAGE]},
        ),
        "delete": Call(tag="Users", answers=ref("Person")),
    },
    users.User: {"get": PERSON_ANSWER, "delete": PERSON_ANSWER},
    scrolling.UserScroll: {"get": Call(tag="Users", answers=list_schema("user", ref("User"), scroll_param=TEXT))},
    scrolling.LeadScroll: {"get": Call(tag="Leads", answers=list_schema("contact", ref("Contact"), scroll_param=TEXT))},
    leads.Leads: {
        "post": Call(tag="Leads", sends=ref("PersonFacts"), answers=ref("Contact")),
        "get": Call(tag="Leads", answers={"anyOf": [ref("Contact"), page_of("contact", ref("Contact"))]}),
    },
    leads.Lead: {
        "get": LEAD_ANSWER,
        "put": Call(tag="Leads", sends=ref("PersonFacts"), answers=ref("Contact")),
        "delete": LEAD_ANSWER,
    },
    companies.Companies: {
        "post": Call(tag="Companies", sends=ref("CompanyFacts"), answers=ref("Company")),
        "get": Call(
            tag="Companies",
            answers={"anyOf": [ref("Company"), page_of("company", ref("Company"), key="companies"), USER_PAGE]},
        ),
    },
    scrolling.CompanyScroll: {
        "get": Call(tag="Companies", answers=list_schema("company", ref("Company"), key="companies", scroll_param=TEXT))
    },
    companies.OneCompany: {"get": COMPANY_ANSWER},
    companies.CompanyUsers: {"get": Call(tag="Companies", answers=page_of("user", ref("Person")))},
    events.Events: {
        "post": Call(tag="Events", status=202, sends=ref("EventFacts")),
        "get": Call(
            tag="Events",
            answers={
                "anyOf": [
                    list_schema("event", ref("Event"), pages=object_schema("pages", next=MAYBE_TEXT, per_page=WHOLE)),
                    ref("EventSummary"),
                ]
            },
        ),
    },
    tags.Tags: {
        "post": Call(
            tag="Tags",
            sends=body_schema(
                id=TEXTUAL,
                name=TEXTUAL,
                users=array_schema(body_schema(**NAMED, untag=SENT_BOOLEAN)),
                companies=array_schema(body_schema(id=TEXTUAL, company_id=TEXTUAL, untag=SENT_BOOLEAN)),
            ),
            answers=ref("Tag"),
        ),
        "get": Call(tag="Tags", answers=TAGS),
    },
    tags.OneTag: {"delete": Call(tag="Tags", refuses=(409,))},
    topics.SubscriptionTypes: {"get": Call(tag="Topics", answers=TOPICS)},
    topics.ContactSubscriptions: {
        "get": Call(tag="Topics", answers=TOPICS),
        "post": Call(
            tag="Topics",
            sends=body_schema("id", id=TEXTUAL, consent_type=const(topics.CONSENT_TYPE)),
            answers=ref("SubscriptionType"),
        ),
    },
    topics.OneContactSubscription: {"delete": Call(tag="Topics", answers=ref("SubscriptionType"), refuses=(409,))},
    segments.Segments: {"get": Call(tag="Segments", answers=SEGMENTS)},
    segments.Segment: {"get": Call(tag="Segments", answers=ref("Segment"))},
    devices.Devices: {
        "post": Call(
            tag="Devices",
            sends=body_schema("token", token=TEXT, platform=PLATFORM, **NAMED),
            answers=ref("Device"),
        ),
        "get": Call(tag="Devices", answers=list_schema("device", ref("Device"))),
    },
    devices.OneDevice: {"delete": Call(tag="Devices", answers=ref("Device"))},
    notes.Notes: {
        "post": Call(
            tag="Notes",
            sends=body_schema("body", body=TEXT, admin_id=TEXTUAL, user=ref("PersonNamed"), **NAMED),
            answers=ref("Note"),
        ),
        "get": Call(tag="Notes", answers=page_of("note", ref("Note"))),
    },
    notes.OneNote: {"get": NOTE_ANSWER},
    search.CustomerSearch: {
        "post": Call(
            tag="Users",
            sends=body_schema(
                "query",
                query=body_schema(field=TEXTUAL, operator=const("="), value=FOUND_VALUE),
                sort=body_schema(field=const("created_at"), order=one_of(*search.ORDERS)),
                pagination=body_schema(per_page=SENT_NUMBER, starting_after=TEXTUAL),
            ),
            answers=list_schema("customer", ref("Person"), pages=ref("CursorPages"), total_count=WHOLE),
        )
    },
    counts.Admins: {"get": Call(tag="Admins", answers=list_schema("admin", ref("Admin")))},
    counts.OneAdmin: {"get": Call(tag="Admins", answers=ref("Admin"))},
    me.Me: {
        "get": Call(
            tag="Admins",
            answers={
                "anyOf": [
                    object_schema("admin", **ADMIN, app=APP, integration=INTEGRATION),
                    object_schema(
                        "integration", **TOKEN_FIELDS, email={"type": "null"}, app=APP, integration=INTEGRATION
                    ),
                ]
            },
        )
    },
}
