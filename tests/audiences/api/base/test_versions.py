"""Requests for another API version are refused, and so are identity keys that no call reads."""

import pytest

from audiences.models import Customer, Tag
from delivery.models import Conversation
from tests.factories import CustomerFactory
from tests.support.api_calls import CALLED, refusal

pytestmark = pytest.mark.django_db

WRITES = [(method, address) for method, address in CALLED if method in ("post", "put", "patch")]


def test_every_call_refuses_another_version_and_names_supported_clients(api):
    calls = [*CALLED, ("post", "/api/contacts/search"), ("get", "/api/data_attributes")]
    answers = {call: getattr(api, call[0])(call[1], headers={"Intercom-Version": "2.11"}) for call in calls}

    assert {call: answer.status_code for call, answer in answers.items() if answer.status_code != 400} == {}
    wrong = {call: refusal(answer) for call, answer in answers.items()}
    assert {call: error["field"] for call, error in wrong.items()} == dict.fromkeys(calls, "Intercom-Version")
    for named in ("version 1.x", "“2.11”", "python-intercom==3.1.0", "intercom-client@2.11"):
        assert [one for one in wrong.items() if named not in one[1]["message"]] == []


@pytest.mark.parametrize("version", ["2", "2.0", "2.14", "3.0", "0.9", "Unstable", "1.x", "1.4; 2.0", "10"])
def test_version_that_is_not_1_x_is_refused(api, version):
    assert refusal(api.get("/api/users", headers={"Intercom-Version": version}))["field"] == "Intercom-Version"


def test_generated_client_for_2_x_is_refused_without_a_version_header(api):
    answer = api.get("/api/users", headers={"X-Fern-SDK-Name": "python-intercom", "X-Fern-SDK-Version": "5.0.1"})

    error = refusal(answer)
    assert "The client “python-intercom 5.0.1” is for 2.x. Use python-intercom==3.1.0" in error["message"]
    assert error["field"] == "X-Fern-SDK-Name"


@pytest.mark.parametrize(
    "headers", [{}, *({"Intercom-Version": version} for version in ("", "1", "1.0", "1.4", " 1.3 "))]
)
def test_version_1_x_and_no_version_are_accepted(api, headers):
    assert api.get("/api/users", headers=headers).status_code == 200


@pytest.mark.parametrize("key", ["external_id", "role", "contact_id", "lead_id", "visitor_id", "contacts"])
def test_every_write_refuses_an_identity_key_that_it_would_ignore(api, key):
    sent = {"email": "ann@x.example", key: "user"}
    answers = {(method, address): getattr(api, method)(address, sent, format="json") for method, address in WRITES}

    assert {call: answer.status_code for call, answer in answers.items() if answer.status_code != 400} == {}
    wrong = {call: refusal(answer) for call, answer in answers.items()}
    assert {call: error["field"] for call, error in wrong.items()} == dict.fromkeys(WRITES, key)
    assert [one for one in wrong.items() if not one[1]["message"].startswith(f"{key} is not supported here. ")] == []


def test_user_sent_as_a_2_x_contact_is_not_saved_as_a_lead(api):
    for sent in ({"role": "user", "external_id": "25"}, {"type": "user", "email": "ann@x.example"}):
        refusal(api.post("/api/contacts", sent, format="json"))

    assert not Customer.objects.exists()


@pytest.mark.parametrize(
    ("address", "sent", "field"),
    [
        ("tags", {"name": "vip", "users": [{"id": "{pk}"}, {"external_id": "25"}]}, "users[1].external_id"),
        (
            "users",
            {"user_id": "25", "companies": [{"company_id": "6", "external_id": "7"}]},
            "companies[0].external_id",
        ),
        ("messages", {"from": {"type": "user", "role": "lead", "id": "{pk}"}, "body": "Hi"}, "from.role"),
        ("contacts/convert", {"contact": {"external_id": "1"}, "user": {"user_id": "2"}}, "contact.external_id"),
        ("bulk/users", {"items": [{"data": {"email": "a@x.example", "role": "lead"}}]}, "items[0].data.role"),
        ("bulk/events", {"items": [{"data": {"id": "1", "external_id": "2"}}]}, "items[0].data.external_id"),
        ("users", {"intercom_user_id": "{pk}", "email": "new@x.example"}, "intercom_user_id"),
        ("contacts", {"intercom_user_id": "{pk}"}, "intercom_user_id"),
        ("contacts/{pk}", {"intercom_user_id": "9"}, "intercom_user_id"),
        ("bulk/users", {"items": [{"data": {"intercom_user_id": "9"}}]}, "items[0].data.intercom_user_id"),
        ("user_delete_requests", {"intercom_user_id": "{pk}", "user_id": "25"}, "user_id"),
        ("notes", {"user": {"id": "{pk}"}, "email": "b@x.example", "body": "Hi"}, "email"),
    ],
)
def test_foreign_key_is_refused_at_any_depth_and_nothing_is_saved(api, address, sent, field):
    lead = CustomerFactory(lead=True)

    def here(value):
        if isinstance(value, dict):
            return {key: here(inner) for key, inner in value.items()}
        return [here(inner) for inner in value] if isinstance(value, list) else value.format(pk=lead.pk)

    method = api.put if "{pk}" in address else api.post
    assert refusal(method(f"/api/{address.format(pk=lead.pk)}", here(sent), format="json"))["field"] == field
    assert Customer.objects.count() == 1
    assert not Tag.objects.exists()
    assert not Conversation.objects.exists()


def test_attributes_and_metadata_may_have_any_key(api):
    sent = {"user_id": "25", "custom_attributes": {"role": "owner", "external_id": "x"}}
    assert api.post("/api/users", sent, format="json").status_code == 200
    event = {"user_id": "25", "event_name": "joined", "metadata": {"role": "owner"}}
    assert api.post("/api/events", event, format="json").status_code == 202


def test_identity_key_without_a_value_is_ignored(api):
    assert api.post("/api/users", {"user_id": "25", "role": None, "external_id": ""}, format="json").status_code == 200


def test_very_deeply_nested_body_is_checked(api):
    deep = '{"user_id": "25", "x": ' + "[" * 300 + "]" * 300 + "}"

    assert api.post("/api/users", deep, content_type="application/json").status_code == 200
