"""The settings a page gives its messenger, as facts for `identify` (behaviour 7.1)."""

from collections.abc import Mapping
from typing import Any

from audiences.attributes import DETAILS

# What a page may say about whoever is logged in. The rest of what REST takes (last seen, sessions, the address and the
# browser) a visit finds out by itself.
FIELDS = frozenset(
    {
        "user_id",
        "email",
        "name",
        "phone",
        "created_at",
        "unsubscribed_from_emails",
        "language_override",
        "avatar",
        "location_data",
    }
)
DETAIL_FIELDS = frozenset(key for key in DETAILS if key.startswith(("utm_", "browser_language", "referrer")))
# Told to the messenger itself, or for `identify` by another road.
NOT_ATTRIBUTES = frozenset(
    {
        "app_id",
        "user_hash",
        "id",
        "role",
        "company",
        "companies",
        "custom_attributes",
        "signed_up_at",
        "remote_created_at",
        "last_request_at",
        "update_last_request_at",
        "new_session",
        "last_seen_ip",
        "last_seen_user_agent",
        "hide_default_launcher",
        "custom_launcher_selector",
        "alignment",
        "vertical_padding",
        "horizontal_padding",
        "session_duration",
        "hide_notifications",
        "action_color",
        "background_color",
        "widget",
        "api_base",
        "user",
        "visitor",
    }
)
COMPANY_FIELDS = frozenset(
    {"id", "company_id", "name", "plan", "monthly_spend", "size", "industry", "website", "created_at", "remove"}
)


def facts_from_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as facts: what is no field of ours is a custom attribute, of the user or of the company."""
    facts = {key: value for key, value in settings.items() if key in FIELDS | DETAIL_FIELDS}
    facts["custom_attributes"] = custom_attributes_in(settings, besides=FIELDS | DETAIL_FIELDS | NOT_ATTRIBUTES)
    given, one = settings.get("companies"), settings.get("company")
    if given is not None and not isinstance(given, list):
        # For `identify` to refuse, in its words.
        return facts | {"companies": given}
    companies = [*(given or []), *([] if one is None else [one])]
    if companies:
        facts["companies"] = [company_facts(entry) if isinstance(entry, dict) else entry for entry in companies]
    return facts


def company_facts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a company's settings as facts."""
    facts = {key: value for key, value in settings.items() if key in COMPANY_FIELDS}
    return facts | {
        "custom_attributes": custom_attributes_in(settings, besides=COMPANY_FIELDS | {"custom_attributes", "type"})
    }


def custom_attributes_in(settings: Mapping[str, Any], *, besides: frozenset[str]) -> Any:
    """Return the custom attributes among settings, in line or in an object of their own."""
    inline = {key: value for key, value in settings.items() if key not in besides}
    own = settings.get("custom_attributes")
    return own | inline if isinstance(own, dict) else inline
