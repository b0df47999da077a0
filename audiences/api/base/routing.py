"""Routes of the API's endpoints: with and without a trailing slash, and with a repeated prefix (wire 5.1)."""

from collections.abc import Mapping

from django.urls import URLPattern, re_path

from audiences.api.base.endpoint import REPEATED_API_PREFIX, Endpoint
from audiences.api.base.ignored_keys import readable_keys
from audiences.api.base.openapi import Call, Schema

Calls = Mapping[type[Endpoint], Mapping[str, Call]]


def api_routes(
    addresses: Mapping[str, type[Endpoint]], *, calls: Calls, schemas: Mapping[str, Schema]
) -> list[URLPattern]:
    """Return the routes. Each view learns from its calls which keys of a body it reads."""
    return [
        re_path(
            rf"^{REPEATED_API_PREFIX}{address}/?$",
            view.as_view(
                keys_read={
                    method: readable_keys(call.sends, schemas=schemas)
                    for method, call in calls[view].items()
                    if call.sends is not None
                }
            ),
        )
        for address, view in addresses.items()
    ]
