"""OpenAPI schemas and calls of the endpoints in this app (wire 5.10 to 5.13).

Over 120 lines because it is one table.
"""

from audiences.api import companies, counts, devices, events, leads, me, notes, scrolling, segments, tags, users
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
    const,
    listed,
    many,
    one_of,
    or_null,
    page_of,
    ref,
    sent,
    shape,
)

MAYBE_OBJECT: Schema = {"type": ["object", "null"], "additionalProperties": True}
AVATAR = shape("avatar", image_url=MAYBE_TEXT)
TAGS = listed("tag", ref("Tag"))
SEGMENTS = listed("segment", ref("Segment"))
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
COUNT = shape(count=WHOLE)
COUNTS_BY_NAME = many({"type": "object", "additionalProperties": WHOLE})

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
    "companies": listed("company", shape("company", **COMPANY), key="companies"),
    "location_data": shape(
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
    "social_profiles": listed("social_profile", FREE),
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
SCHEMAS: dict[str, Schema] = {
    "ErrorList": shape(
        "error.list",
        request_id=TEXT,
        errors=many(shape(code=TEXT, message=TEXT, maybe={"field": TEXT})),
    ),
    "Pages": shape("pages", next=MAYBE_TEXT, page=WHOLE, per_page=WHOLE, total_pages=WHOLE),
    "Tag": shape("tag", id=TEXT, name=TEXT),
    "Segment": shape(
        "segment",
        id=TEXT,
        name=TEXT,
        created_at=MOMENT,
        updated_at=MOMENT,
        person_type=const("user"),
        maybe={"count": {**or_null(WHOLE), "description": "Null if counting took too long."}},
    ),
    "User": shape("user", maybe=WARNINGS, **PERSON),
    "Contact": shape("contact", maybe=WARNINGS, **PERSON),
    "Person": {"anyOf": [ref("User"), ref("Contact")]},
    "PersonReference": shape(type=one_of("user", "lead"), id=TEXT),
    "Company": shape(
        "company",
        **COMPANY,
        app_id=TEXT,
        plan=or_null(shape("plan", id=TEXT, name=TEXT)),
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
    "Admin": shape(
        "admin",
        id=TEXT,
        name=TEXT,
        email=MAYBE_TEXT,
        away_mode_enabled=BOOLEAN,
        avatar=AVATAR,
        team_ids=many(TEXT),
    ),
    "Note": shape(
        "note",
        id=TEXT,
        created_at=MOMENT,
        body=TEXT,
        author=or_null(ref("Admin")),
        user=shape(type=one_of("user", "lead"), id=TEXT, user_id=MAYBE_TEXT, email=MAYBE_TEXT),
    ),
    "Device": shape(
        "device",
        id=TEXT,
        token=TEXT,
        platform=PLATFORM,
        created_at=MOMENT,
        retired_at=MAYBE_MOMENT,
        user=shape(type=one_of("user", "lead"), id=TEXT, user_id=MAYBE_TEXT, email=MAYBE_TEXT),
    ),
    "Event": shape(
        "event",
        id=TEXT,
        event_name=TEXT,
        created_at=MOMENT,
        user_id=MAYBE_TEXT,
        email=MAYBE_TEXT,
        intercom_user_id=TEXT,
        metadata=FREE,
    ),
    "EventSummary": shape(
        "event.summary",
        user_id=MAYBE_TEXT,
        email=MAYBE_TEXT,
        intercom_user_id=TEXT,
        events=many(shape(name=TEXT, first=TEXT, last=TEXT, count=WHOLE, description=MAYBE_TEXT)),
    ),
    "CompanyFacts": sent(
        company_id=TEXTUAL,
        id=TEXTUAL,
        name=TEXTUAL,
        plan={"type": ["string", "object", "null"]},
        monthly_spend=SENT_NUMBER,
        size=SENT_NUMBER,
        website=TEXTUAL,
        industry=TEXTUAL,
        remote_created_at=SENT_MOMENT,
        custom_attributes=MAYBE_OBJECT,
        remove=SENT_BOOLEAN,
    ),
    "PersonFacts": sent(
        id=TEXTUAL,
        user_id=TEXTUAL,
        email=TEXTUAL,
        phone=TEXTUAL,
        name=TEXTUAL,
        signed_up_at=SENT_MOMENT,
        last_request_at=SENT_MOMENT,
        last_seen_ip=TEXTUAL,
        last_seen_user_agent=TEXTUAL,
        unsubscribed_from_emails=SENT_BOOLEAN,
        update_last_request_at=SENT_BOOLEAN,
        new_session=SENT_BOOLEAN,
        language=TEXTUAL,
        timezone=TEXTUAL,
        location_data=MAYBE_OBJECT,
        custom_attributes=MAYBE_OBJECT,
        companies=many(ref("CompanyFacts")),
    ),
    "PersonNamed": sent(type=TEXTUAL, id=TEXTUAL, user_id=TEXTUAL, email=TEXTUAL, intercom_user_id=TEXTUAL),
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
            more="Identifies the user by id, then user_id, then email.",
        ),
        "get": Call(
            tag="Users",
            answers={"anyOf": [ref("Person"), USER_PAGE]},
        ),
        "delete": Call(tag="Users", answers=ref("Person")),
    },
    users.User: {"get": PERSON_ANSWER, "delete": PERSON_ANSWER},
    scrolling.UserScroll: {"get": Call(tag="Users", answers=listed("user", ref("User"), scroll_param=TEXT))},
    scrolling.LeadScroll: {"get": Call(tag="Leads", answers=listed("contact", ref("Contact"), scroll_param=TEXT))},
    leads.Leads: {
        "post": Call(tag="Leads", sends=ref("PersonFacts"), answers=ref("Contact")),
        "get": Call(
            tag="Leads",
            answers={"anyOf": [ref("Contact"), page_of("contact", ref("Contact"))]},
        ),
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
    companies.OneCompany: {"get": COMPANY_ANSWER},
    companies.CompanyUsers: {"get": Call(tag="Companies", answers=page_of("user", ref("Person")))},
    events.Events: {
        "post": Call(
            tag="Events",
            status=202,
            sends=sent(
                "event_name",
                event_name=TEXTUAL,
                created_at=SENT_MOMENT,
                id=TEXTUAL,
                user_id=TEXTUAL,
                email=TEXTUAL,
                metadata=MAYBE_OBJECT,
            ),
        ),
        "get": Call(
            tag="Events",
            answers={
                "anyOf": [
                    listed("event", ref("Event"), pages=shape("pages", next=MAYBE_TEXT, per_page=WHOLE)),
                    ref("EventSummary"),
                ]
            },
        ),
    },
    tags.Tags: {
        "post": Call(
            tag="Tags",
            sends=sent(
                id=TEXTUAL,
                name=TEXTUAL,
                users=many(sent(id=TEXTUAL, user_id=TEXTUAL, email=TEXTUAL, untag=SENT_BOOLEAN)),
                companies=many(sent(id=TEXTUAL, company_id=TEXTUAL, untag=SENT_BOOLEAN)),
            ),
            answers=ref("Tag"),
        ),
        "get": Call(tag="Tags", answers=TAGS),
    },
    tags.OneTag: {"delete": Call(tag="Tags", refuses=(409,))},
    segments.Segments: {
        "get": Call(
            tag="Segments",
            answers=SEGMENTS,
        )
    },
    segments.Segment: {"get": Call(tag="Segments", answers=ref("Segment"))},
    devices.Devices: {
        "post": Call(
            tag="Devices",
            sends=sent("token", token=TEXT, platform=PLATFORM, id=TEXTUAL, user_id=TEXTUAL, email=TEXTUAL),
            answers=ref("Device"),
            more="Identifies the user by id, then user_id, then email. Call it at each start of the app.",
        ),
        "get": Call(tag="Devices", answers=listed("device", ref("Device"))),
    },
    devices.OneDevice: {"delete": Call(tag="Devices", answers=ref("Device"))},
    notes.Notes: {
        "post": Call(
            tag="Notes",
            sends=sent(
                "body",
                body=TEXT,
                admin_id=TEXTUAL,
                user=ref("PersonNamed"),
                user_id=TEXTUAL,
                email=TEXTUAL,
            ),
            answers=ref("Note"),
        ),
        "get": Call(tag="Notes", answers=page_of("note", ref("Note"))),
    },
    notes.OneNote: {"get": NOTE_ANSWER},
    counts.Admins: {"get": Call(tag="Admins", answers=listed("admin", ref("Admin")))},
    me.Me: {
        "get": Call(
            tag="Admins",
            answers=shape(
                "integration",
                id=TEXT,
                name=TEXT,
                email={"type": "null"},
                app=shape("app", id_code=TEXT, name=TEXT, timezone=TEXT, identity_verification=BOOLEAN),
            ),
        )
    },
}
# Routed by delivery, which adds the counts of conversations.
COUNTS = Call(
    tag="Counts",
    answers={
        "anyOf": [
            shape("count.hash", company=COUNT, user=COUNT, lead=COUNT, tag=COUNT, segment=COUNT),
            shape("count", user=shape(segment=COUNTS_BY_NAME)),
            shape("count", user=shape(tag=COUNTS_BY_NAME)),
            shape("count", company=shape(segment=COUNTS_BY_NAME)),
            shape("count", company=shape(tag=COUNTS_BY_NAME)),
            shape("count", company=shape(user=COUNTS_BY_NAME)),
            *(shape("count", **{kind: COUNT}) for kind in counts.TOTAL_COUNTS),
            shape("count", conversation=shape(assigned=WHOLE, unassigned=WHOLE, open=WHOLE, closed=WHOLE)),
            shape("count", conversation=shape(admin=many(shape(id=TEXT, name=TEXT, open=WHOLE, closed=WHOLE)))),
        ]
    },
)
