"""Payloads of the API's responses: rows to JSON (wire 5.10 to 5.13).

Over 120 lines because the payloads share their parts.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models import prefetch_related_objects

from audiences.intake import Refused
from audiences.models import Audience, Company, Customer, Device, Event, EventSummary, Note, Tag
from audiences.models.customers import Role

APP_ID = "outbound"

Json = dict[str, Any]


def unix(moment: datetime | None) -> int | None:
    """Return a moment in the wire format, whole unix seconds."""
    return None if moment is None else int(moment.timestamp())


def list_payload(kind: str, entries: Iterable[Any], *, key: str = "") -> Json:
    """Return a list object: {"type": "tag.list", "tags": [...]}."""
    return {"type": f"{kind}.list", key or f"{kind}s": list(entries)}


def avatar(url: str | None) -> Json:
    return {"type": "avatar", "image_url": url or None}


def warnings_payload(warnings: Iterable[Refused]) -> Json:
    """Return the `warnings` about attributes that were not stored; an empty object if there are none."""
    found = [{"code": "attribute_not_stored", "message": str(wrong), "field": wrong.field} for wrong in warnings]
    return {"warnings": found} if found else {}


def tag(label: Tag) -> Json:
    return {"type": "tag", "id": str(label.pk), "name": label.name}


def tags(labels: Iterable[Tag]) -> Json:
    """Return a list of tags, sorted by name."""
    return list_payload("tag", (tag(label) for label in sorted(labels, key=lambda label: label.name.lower())))


def segment(found: Audience) -> Json:
    return {
        "type": "segment",
        "id": str(found.pk),
        "name": found.name,
        "created_at": unix(found.created_at),
        "updated_at": unix(found.updated_at),
        "person_type": "user",
    }


def user_reference(customer: Customer) -> Json:
    """Return a reference to a user or lead, as used inside other payloads."""
    return {"type": customer.role, "id": str(customer.pk)}


def users(customers: Sequence[Customer], *, segments: Mapping[int, Sequence[Audience]]) -> list[Json]:
    """Return users, with their companies and tags prefetched. `segments` is by customer key."""
    prefetch_related_objects(customers, "companies", "tags")
    return [user(customer, segments=segments.get(customer.pk, ())) for customer in customers]


def user(customer: Customer, *, segments: Iterable[Audience] = ()) -> Json:
    """Return a user or lead with all fields."""
    details = customer.details
    companies = (company for company in customer.companies.all() if company.archived_at is None)
    is_lead = customer.role == Role.LEAD
    return {
        "type": "contact" if is_lead else "user",
        "id": str(customer.pk),
        # Leads have no user_id. Clients can use this value to refer to the lead (see `lookups.find_lead`).
        "user_id": f"lead-{customer.pk}" if is_lead else customer.user_id,
        "anonymous": is_lead,
        "email": customer.email,
        "phone": customer.phone or None,
        "name": customer.name or None,
        "pseudonym": None,
        "avatar": avatar(details.get("avatar_url")),
        "app_id": APP_ID,
        "companies": list_payload("company", map(company_reference, companies), key="companies"),
        "location_data": {
            "type": "location_data",
            "city_name": customer.city or None,
            "continent_code": details.get("continent"),
            "country_code": details.get("country_code"),
            "country_name": customer.country or None,
            "latitude": details.get("latitude"),
            "longitude": details.get("longitude"),
            "postal_code": details.get("postal_code"),
            "region_name": details.get("region"),
            "timezone": customer.timezone or None,
        },
        "last_request_at": unix(customer.last_seen_at),
        "last_seen_ip": customer.last_seen_ip or None,
        "created_at": unix(customer.created_at),
        "remote_created_at": unix(customer.signed_up_at),
        "signed_up_at": unix(customer.signed_up_at),
        "updated_at": unix(customer.updated_at),
        "session_count": customer.session_count,
        "social_profiles": list_payload("social_profile", ()),
        "unsubscribed_from_emails": customer.unsubscribed_from_emails,
        "marked_email_as_spam": customer.marked_email_as_spam,
        "has_hard_bounced": customer.has_hard_bounced,
        "user_agent_data": customer.user_agent or None,
        "tags": tags(customer.tags.all()),
        "segments": list_payload("segment", map(segment, segments)),
        "referrer": details.get("referrer"),
        **{f"utm_{part}": details.get(f"utm_{part}") for part in ("campaign", "content", "medium", "source", "term")},
        "owner_id": str(customer.owner_id) if customer.owner_id else None,
        "custom_attributes": customer.attributes,
    }


def note(found: Note, *, customer: Customer) -> Json:
    return {
        "type": "note",
        "id": str(found.pk),
        "created_at": unix(found.created_at),
        "body": found.body,
        "author": admin(found.teammate) if found.teammate else None,
        "user": {**user_reference(customer), "user_id": customer.user_id, "email": customer.email},
    }


def device(found: Device, *, customer: Customer) -> Json:
    return {
        "type": "device",
        "id": str(found.pk),
        "token": found.token,
        "platform": found.platform,
        "created_at": unix(found.created_at),
        "retired_at": unix(found.retired_at),
        "user": {**user_reference(customer), "user_id": customer.user_id, "email": customer.email},
    }


def company_reference(company: Company) -> Json:
    """Return a reference to a company, as used inside other payloads."""
    return {"type": "company", "company_id": company.company_id, "id": str(company.pk), "name": company.name or None}


def company(found: Company, *, user_count: int) -> Json:
    """Return a company with all fields."""
    return {
        **company_reference(found),
        "app_id": APP_ID,
        # Plans are only names here, so the name is also the id.
        "plan": {"type": "plan", "id": found.plan, "name": found.plan} if found.plan else None,
        "remote_created_at": unix(found.remote_created_at),
        "created_at": unix(found.created_at),
        "updated_at": unix(found.updated_at),
        "last_request_at": unix(found.last_seen_at),
        "monthly_spend": found.monthly_spend,
        "session_count": found.session_count,
        "user_count": user_count,
        "size": found.size,
        "website": found.website or None,
        "industry": found.industry or None,
        "tags": tags(found.tags.all()),
        # Segments contain only people.
        "segments": list_payload("segment", ()),
        "custom_attributes": found.attributes,
    }


def admin(teammate: User) -> Json:
    return {
        "type": "admin",
        "id": str(teammate.pk),
        "name": teammate.get_full_name() or teammate.get_username(),
        "email": teammate.email or None,
        "away_mode_enabled": False,
        "avatar": avatar(None),
        "team_ids": [],
    }


def customer_ids(customer: Customer) -> Json:
    """Return the three identifiers of a customer, as used in events."""
    return {"user_id": customer.user_id, "email": customer.email, "intercom_user_id": str(customer.pk)}


def event(happened: Event, *, customer: Customer) -> Json:
    return {
        "type": "event",
        "id": str(happened.pk),
        "event_name": happened.name,
        "created_at": unix(happened.happened_at),
        **customer_ids(customer),
        "metadata": happened.metadata,
    }


def event_summary(summaries: Iterable[EventSummary], *, customer: Customer) -> Json:
    """Return a customer's event counts. The moments are in ISO format here (wire 5.12)."""
    return {
        "type": "event.summary",
        **customer_ids(customer),
        "events": [
            {
                "name": summary.name,
                "first": iso(summary.first_at),
                "last": iso(summary.last_at),
                "count": summary.count,
                "description": None,
            }
            for summary in summaries
        ],
    }


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
