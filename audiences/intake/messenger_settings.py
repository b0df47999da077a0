"""Conversion of a page's messenger settings to the data that `identify` takes (behaviour 7.1)."""

from collections.abc import Mapping
from typing import Any

from audiences.attributes import DETAILS

# The fields a page may send about the logged-in user. The other fields of REST (last seen, sessions, IP address and
# browser) come from the visit itself.
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
# Settings of the messenger, and fields that `identify` gets in another way.
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
    """Return settings as facts. Unknown settings become custom attributes of the user or of the company."""
    facts = {key: value for key, value in settings.items() if key in FIELDS | DETAIL_FIELDS}
    facts["custom_attributes"] = custom_attributes_in(settings, besides=FIELDS | DETAIL_FIELDS | NOT_ATTRIBUTES)
    given, one = settings.get("companies"), settings.get("company")
    if given is not None and not isinstance(given, list):
        # `identify` refuses it with its own error.
        return facts | {"companies": given}
    companies = [*(given or []), *([] if one is None else [one])]
    if companies:
        facts["companies"] = [company_facts(entry) if isinstance(entry, dict) else entry for entry in companies]
    return facts


def company_facts(settings: Mapping[str, Any]) -> dict[str, Any]:
    facts = {key: value for key, value in settings.items() if key in COMPANY_FIELDS}
    return facts | {
        "custom_attributes": custom_attributes_in(settings, besides=COMPANY_FIELDS | {"custom_attributes", "type"})
    }


def custom_attributes_in(settings: Mapping[str, Any], *, besides: frozenset[str]) -> Any:
    """Return the custom attributes in settings, both inline and in the object `custom_attributes`."""
    inline = {key: value for key, value in settings.items() if key not in besides}
    own = settings.get("custom_attributes")
    return own | inline if isinstance(own, dict) else inline
