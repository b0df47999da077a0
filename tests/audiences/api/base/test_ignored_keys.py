"""Ignored keys of a body are named in a response header; and the right that each call needs."""

from functools import reduce

import pytest

from audiences.api.base.ignored_keys import find_ignored_keys, header_value, readable_keys
from audiences.api.base.openapi import FREE, TEXT, array_schema, body_schema, ref
from config.openapi import ADDRESS_OF, CALLS
from tests.support.api_calls import CALLED

SCHEMAS = {"Person": body_schema(name=TEXT, custom_attributes=FREE)}
KEYS = readable_keys(body_schema(to=ref("Person"), items=array_schema(ref("Person"))), schemas=SCHEMAS)

EMOJI = ["%F0%9F%98%80" * 50 + str(number) for number in range(25)]


@pytest.mark.parametrize(
    ("sent", "ignored"),
    [
        ({"to": {"name": "Ann", "custom_attributes": {"a": 1}}}, ""),
        ({"subjekt": "x", "to": {"Name": "Ann"}}, "subjekt, to.Name"),
        ({"items": [{"name": "Ann"}, {"nam": "Bob"}, {"nam": "Cleo"}]}, "items[].nam"),
        ({"items": {"type": "person.list", "items": [{"nam": "Bob"}]}}, "items[].nam"),
        ({"to": "Ann", "items": ["Ann"]}, ""),
        ({"items": reduce(lambda inner, _: [inner], range(2000), [])}, ""),
        (
            {"items": reduce(lambda inner, _: {"type": "person.list", "items": [inner]}, range(2000), {})},
            "items[].type, items[].items",
        ),
        ({"\U0001f600" * 50 + str(number): 1 for number in range(25)}, ", ".join(EMOJI[:3]) + ", and 22 more"),
        ({"naïve\r\nSet-Cookie: x": 1, "\ud800": 2}, "na%C3%AFve%0D%0ASet-Cookie:%20x, %3F"),
        ({f"k{number}": 1 for number in range(25)}, ", ".join(f"k{n}" for n in range(20)) + ", and 5 more"),
    ],
)
def test_paths_of_ignored_keys_are_listed_once_in_ascii(sent, ignored):
    assert header_value(find_ignored_keys(sent, KEYS)) == ignored


@pytest.mark.django_db
def test_every_call_with_a_body_names_a_key_that_it_ignores(api):
    called = [(view, method) for view in ADDRESS_OF for method in CALLS[view]]
    with_body = [
        call for call, (view, method) in zip(CALLED, called, strict=True) if CALLS[view][method].sends is not None
    ]
    assert len(with_body) > 20

    answers = {call: getattr(api, call[0])(call[1], {"nonsense": 1}, format="json") for call in with_body}

    assert {call: answer.headers.get("X-Outbound-Ignored-Keys") for call, answer in answers.items()} == dict.fromkeys(
        with_body, "nonsense"
    )


@pytest.mark.django_db
def test_user_payload_can_be_sent_back_and_only_computed_keys_are_ignored(api):
    made = api.post("/api/users", {"user_id": "25", "companies": [{"company_id": "6"}]}, format="json")
    assert "X-Outbound-Ignored-Keys" not in made.headers

    again = api.post("/api/users", made.json(), format="json")

    assert again.status_code == 200
    ignored = again.headers["X-Outbound-Ignored-Keys"].split(", ")
    assert {"anonymous", "segments"} <= set(ignored)
    assert not {"user_id", "email", "name", "phone", "signed_up_at", "companies", "custom_attributes"} & set(ignored)


def test_reading_needs_read_sending_needs_send_and_all_else_write():
    needed: dict[str, set[str]] = {}
    for view, place in ADDRESS_OF.items():
        for method in CALLS[view]:
            needed.setdefault(view.right_for(method), set()).add(f"{method} {place}")

    assert set(needed) == {"read", "write", "send"}
    assert {call for call in needed["read"] if not call.startswith("get ")} == {"post api/customers/search"}
    assert {"post api/messages", "post api/conversations/(?P<pk>[^/]+)/reply"} <= needed["send"]
    assert {"post api/users", "post api/events", "post api/bulk/users"} <= needed["write"]
    assert all(view.rights.keys() <= CALLS[view].keys() for view in ADDRESS_OF)
