"""Rights of API tokens: each call needs one, and refuses a token that lacks it."""

import pytest
from django.core.management import call_command
from django.db import IntegrityError, transaction
from rest_framework.test import APIClient

from audiences.models import Integration
from audiences.models.workspace import TokenRight
from config.openapi import ADDRESS_OF, CALLS
from tests.support.api_calls import CALLED

pytestmark = pytest.mark.django_db

# The calls other than GET, by their right. A new call must be added here, so that somebody decides on its right.
ACTS = {
    f"post outbound/7/{act}"
    for act in ("live", "sample", "rest", "schedule", "unschedule", "cancel", "pause", "resume", "stop")
}
RIGHTS: dict[str, set[str]] = {
    "read": {"post customers/search"},
    "write": {
        *("post bulk/events", "post bulk/users", "post user_delete_requests"),
        *("post companies", "post devices", "delete devices/7", "post events", "post notes"),
        *("post contacts", "put contacts/7", "delete contacts/7", "post contacts/convert"),
        *("post users", "delete users", "delete users/7", "post tags", "delete tags/7"),
        *("post visitors", "put visitors", "put visitors/7", "delete visitors/7", "post visitors/convert"),
        *("post contacts/7/subscriptions", "delete contacts/7/subscriptions/7"),
        *("post subscriptions", "put subscriptions/7", "post subscriptions/7", "delete subscriptions/7"),
        *("post subscriptions/7/ping", "put conversations/7", "put conversations/7/reply"),
    },
    "send": {"post messages", "post conversations/7/reply", "post outbound", "patch outbound/7", *ACTS},
}

# Calls that need "read" too.
ALSO_READ = {
    f"{method} subscriptions{pk}" for method, pk in (("post", ""), ("put", "/7"), ("post", "/7"), ("delete", "/7"))
}


def call(method: str, path: str, *rights: str):
    _, token = Integration.issue(name="-".join(rights), rights=rights)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return getattr(client, method)(path, {}, format="json")


# Each call with the right that its view asks for.
NEEDED = [
    (method, path, view.right_for(method))
    for (view, _), (method, path) in zip(
        ((view, name) for view in ADDRESS_OF for name in CALLS[view]), CALLED, strict=True
    )
]


def test_each_call_needs_the_right_that_the_table_names():
    others = {f"{method} {path.removeprefix('/api/')}": right for method, path, right in NEEDED if method != "get"}

    assert others == {call: right for right, calls in RIGHTS.items() for call in calls}
    assert {right for method, _, right in NEEDED if method == "get"} == {"read"}


def test_token_without_the_right_is_refused_everywhere_and_one_with_only_that_right_nowhere():
    for method, path, right in NEEDED:
        others = [other for other in TokenRight.values if other != right]
        only = " and ".join(f"“{other}”" for other in others)

        refused = call(method, path, *others)
        [error] = refused.json()["errors"]
        assert (refused.status_code, error["code"]) == (403, "action_forbidden")
        assert error["message"] == f"This call needs the right “{right}”. This token has only {only}."
        also = ["read"] if f"{method} {path.removeprefix('/api/')}" in ALSO_READ else []
        assert call(method, path, right, *also).status_code != 403, path
        Integration.objects.all().delete()


def test_webhook_needs_the_right_to_read_besides_the_right_to_write():
    for named in sorted(ALSO_READ):
        method, path = named.split()

        refused = call(method, f"/api/{path}", "write", "send")
        assert (refused.status_code, refused.json()["errors"][0]["message"]) == (
            403,
            "This call also needs the right “read”, because notifications contain data. "
            "This token has only “write” and “send”.",
        )
        Integration.objects.all().delete()


def test_unknown_addresses_and_methods_are_the_same_for_all_tokens():
    assert call("post", "/api/nothing", "read").status_code == 404
    assert call("delete", "/api/counts", "read").status_code == 405
    assert call("options", "/api/users", "read").status_code == 200


def test_token_has_all_rights_unless_it_is_limited(capsys):
    made, _ = Integration.issue(name="The shop")
    assert made.rights_text == "All"
    call_command("create_token", "The report", "--rights", "read", "send")
    assert Integration.objects.get(name="The report").rights_text == "Read data, Send messages and replies"
    for rights in ([], ["fly"]):
        with pytest.raises(IntegrityError), transaction.atomic():
            Integration.objects.filter(name="The shop").update(rights=rights)
