"""Query parameters: one that would have no effect is refused by name, so a list is never wider than requested."""

import pytest
from rest_framework.test import APIClient

from audiences.api.base.query import ALWAYS_ALLOWED
from config.openapi import ADDRESS_OF, CALLS, document_path
from delivery.conversations import threads
from delivery.models import Conversation
from tests.factories import AT, CompanyFactory, CustomerFactory, MembershipFactory, TagFactory
from tests.support.api_calls import CALLED, refusal

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("query", ["customer_id=25", "user_id[]=25", "User_Id=25", "updated_since=3", "access_token=x"])
def test_every_call_refuses_a_parameter_that_it_does_not_declare(api, query):
    name = query.partition("=")[0]
    answers = {(method, address): getattr(api, method)(f"{address}?{query}") for method, address in CALLED}

    assert {call: answer.status_code for call, answer in answers.items() if answer.status_code != 400} == {}
    wrong = {call: refusal(answer) for call, answer in answers.items()}
    assert {call: error["field"] for call, error in wrong.items()} == dict.fromkeys(answers, name)
    assert [one for one in wrong.items() if f"“{name}” is not a parameter of this call." not in one[1]["message"]] == []


def test_refusal_lists_the_accepted_parameters(api):
    assert refusal(api.get("/api/notes?customer=25"))["message"].endswith(
        "It accepts user_id, email, intercom_user_id, id, page, per_page."
    )
    assert refusal(api.get("/api/tags?customer=25"))["message"].endswith("It accepts none.")


@pytest.mark.parametrize(
    "address",
    ["users", "contacts", "companies", "conversations", "segments", "tags", "admins", "jobs", "subscriptions"],
)
def test_every_list_accepts_paging_and_sorting_parameters(api, address):
    assert {"page", "per_page", "order", "sort"} <= ALWAYS_ALLOWED
    assert api.get(f"/api/{address}?page=1&per_page=50&order=desc&sort=created_at").status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("user_id={user}", "user_id"),
        ("email=ann@x.example", "email"),
        ("intercom_user_id={pk}", "intercom_user_id"),
        ("id={pk}", "id"),
        ("unread=true", "unread"),
        ("admin_id=1", "admin_id"),
        ("open=true", "open"),
        ("type=admin&user_id={user}", "user_id"),
        ("type=admin&unread=true", "unread"),
        ("type=user&user_id={user}&admin_id=nobody", "admin_id"),
        ("type=user&user_id={user}&open=true", "open"),
        ("type=user&user_id={user}&user_id=other", "user_id"),
        ("type=user&user_id={user}&unread=", "unread"),
        ("type=&user_id={user}", "type"),
    ],
)
def test_conversations_of_one_person_never_return_those_of_all(api, query, field):
    ann = CustomerFactory(user_id="ann", email="ann@x.example")
    threads.open_by_customer(CustomerFactory(user_id="bob"), body="Hi", at=AT)

    answer = api.get(f"/api/conversations?{query.format(user=ann.user_id, pk=ann.pk)}")

    assert refusal(answer)["field"] == field
    assert Conversation.objects.count() == 1


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("users?user_id=", "user_id"),
        ("users?email=", "email"),
        ("users?tag_id=", "tag_id"),
        ("users?user_id=ann&tag_id={tag}", "tag_id"),
        ("users?email=ann@x.example&created_since=3", "created_since"),
        ("users?user_id=ann&user_id=bob", "user_id"),
        ("contacts?email=", "email"),
        ("contacts?user_id=lead-1&tag_id={tag}", "tag_id"),
        ("companies?company_id=", "company_id"),
        ("companies?company_id=6&name=Acme", "name"),
        ("companies?company_id=6&tag_id={tag}", "tag_id"),
        ("companies?name=Acme&tag_id={tag}", "tag_id"),
        ("companies?type=user", "type"),
        ("companies?company_id=6&type=contact", "type"),
        ("companies/{company}/users?tag_id={tag}", "tag_id"),
        ("segments?type=contact", "type"),
        ("counts?count=tag", "count"),
        ("events?type=user&user_id=ann&event_name=x", "event_name"),
        ("outbound?state=live&title=x", "title"),
        ("outbound?state=", "state"),
    ],
)
def test_filter_without_effect_is_refused_by_name(api, address, field):
    tag, company = TagFactory(), CompanyFactory(company_id="6", name="Acme")
    CustomerFactory(user_id="ann", email="ann@x.example")

    assert refusal(api.get(f"/api/{address.format(tag=tag.pk, company=company.pk)}"))["field"] == field


@pytest.mark.parametrize("name", ["user_id", "email", "intercom_user_id", "id"])
def test_user_is_found_by_every_documented_identifier(api, name):
    ann = CustomerFactory(user_id="ann", email="ann@x.example")
    CustomerFactory(user_id="bob")
    value = {"user_id": "ann", "email": "ann@x.example"}.get(name, str(ann.pk))

    assert api.get("/api/users", {name: value}).json()["user_id"] == "ann"
    assert api.get("/api/conversations", {"type": "user", name: value}).status_code == 200


@pytest.mark.parametrize("name", ["user_id", "intercom_user_id", "id"])
def test_lead_is_found_by_every_documented_identifier(api, name):
    lead, _ = CustomerFactory(lead=True), CustomerFactory(lead=True)
    value = f"lead-{lead.pk}" if name == "user_id" else str(lead.pk)

    assert api.get("/api/contacts", {name: value}).json()["id"] == str(lead.pk)


def test_users_of_a_company_can_be_sorted(api):
    MembershipFactory(company__company_id="6", customer__user_id="ann")

    answer = api.get("/api/companies?company_id=6&type=user&sort=created_at&order=asc&page=1")

    assert [user["user_id"] for user in answer.json()["users"]] == ["ann"]


def test_openapi_document_lists_the_accepted_parameters(api):
    paths = APIClient().get("/api/schema?format=json").json()["paths"]

    for view in ADDRESS_OF:
        address = document_path(view)
        for method in CALLS[view]:
            shown = [one["name"] for one in paths[address][method]["parameters"] if one["in"] == "query"]
            assert shown == [one.name for one in view.parameters.get(method, ())], (method, address)


def test_parameters_are_declared_only_for_existing_methods():
    for view in CALLS:
        assert set(view.parameters) <= set(CALLS[view]), view
