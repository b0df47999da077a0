"""The teammate for whom a token acts, old credentials, scrolling of companies, and the search for one value."""

import base64
from importlib import import_module
from io import StringIO

import pytest
from django.apps import apps
from django.contrib.admin.models import ADDITION, LogEntry
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from audiences.models import Integration
from tests.factories import CompanyFactory, CustomAttributeFactory, CustomerFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_limit(settings) -> None:
    settings.API_RATE_LIMIT = 0


@pytest.fixture
def ada(django_user_model):
    django_user_model.objects.create(username="first", is_staff=True)
    return django_user_model.objects.create(username="ada", email="ada@acme.example", is_staff=True)


def client_with(header: str) -> APIClient:
    return APIClient(HTTP_AUTHORIZATION=header)


@pytest.fixture
def api(ada) -> APIClient:
    return client_with(f"Bearer {Integration.issue(name='The shop', teammate=ada)[1]}")


def test_me_is_the_teammate_for_whom_the_token_acts(api, ada, django_user_model):
    me = api.get("/api/me").json()

    assert (me["type"], me["id"], me["email"], me["app"]["id_code"]) == (
        "admin",
        str(ada.pk),
        "ada@acme.example",
        "outbound",
    )
    assert (me["integration"]["name"], me["integration"]["rights"]) == ("The shop", ["read", "write", "send"])
    admin = {key: value for key, value in me.items() if key not in ("app", "integration")}
    assert api.get(f"/api/admins/{ada.pk}").json() == admin
    assert api.get("/api/admins/999999").json()["errors"][0]["field"] == "id"
    boss = django_user_model.objects.create(username="boss", is_staff=True, is_superuser=True)
    django_user_model.objects.filter(pk=ada.pk).update(is_active=False)
    assert api.get("/api/me").json()["id"] == str(boss.pk)
    assert api.get(f"/api/admins/{ada.pk}").status_code == 404


def test_token_without_any_teammate_is_itself():
    me = client_with(f"Bearer {Integration.issue(name='The shop')[1]}").get("/api/me").json()

    assert (me["type"], me["name"], me["email"]) == ("integration", "The shop", None)


def test_tokens_of_before_act_for_the_teammate_who_created_them(ada):
    token, _ = Integration.issue(name="The shop")
    LogEntry.objects.log_actions(ada.pk, [token], ADDITION, "Created the token", single_object=True)

    import_module("audiences.migrations.0024_api_requests").find_creators(apps, None)

    token.refresh_from_db()
    assert token.teammate == ada


def test_command_creates_a_token_for_a_teammate(ada):
    call_command("create_token", "The shop", teammate="ada", stdout=StringIO(), stderr=StringIO())
    assert Integration.objects.get().teammate == ada

    with pytest.raises(CommandError, match="no teammate with the login name “nobody”"):
        call_command("create_token", "Other", teammate="nobody", stdout=StringIO(), stderr=StringIO())


def test_app_id_and_api_key_are_accepted_as_old_clients_send_them():
    token = Integration.issue(name="The shop")[1]
    answers = {
        pair: client_with(f"Basic {base64.b64encode(pair.encode()).decode()}").get("/api/tags").status_code
        for pair in (f"outbound:{token}", f"{token}:", f"{token}:secret", "outbound:wrong-wrong", ":")
    }

    assert list(answers.values()) == [200, 200, 401, 401, 401]


def test_companies_are_scrolled_to_the_end(api):
    for number in range(103):
        CompanyFactory(company_id=str(number), archived=number == 0)
    seen, place = [], ""
    while (page := api.get("/api/companies/scroll", place and {"scroll_param": place}).json())["companies"]:
        seen += [row["company_id"] for row in page["companies"]]
        place = page["scroll_param"]

    assert seen == [str(number) for number in range(1, 103)]
    assert page["type"] == "company.list"


def search(api, field: object, value: object, **more: object):
    query = {"query": {"field": field, "operator": "=", "value": value}}
    return api.post("/api/customers/search", {**query, **more}, format="json")


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("email", "Ann@X.example", {"ann"}),
        ("name", "Ann", {"ann", None}),
        ("name", "ann", set()),
        ("user_id", "ann", {"ann"}),
        ("role", "lead", {None}),
        ("custom_attributes.seats", 5, {"ann"}),
        ("unsubscribed_from_emails", False, {"ann", "bob", None}),
        ("session_count", 3, {"bob"}),
    ],
)
def test_search_finds_users_and_leads_by_one_value(api, field, value, found):
    CustomAttributeFactory(name="seats", kind="number")
    CustomerFactory(user_id="ann", name="Ann", email="ann@x.example", attributes={"seats": 5})
    CustomerFactory(user_id="bob", name="Bob", session_count=3)
    CustomerFactory(lead=True, name="Ann")
    CustomerFactory(user_id="gone", name="Ann", archived=True)

    answered = search(api, field, value).json()

    names = {None if row["type"] == "contact" else row["user_id"] for row in answered["customers"]}
    assert (answered["type"], answered["total_count"], names) == ("customer.list", len(found), found)


def test_search_finds_an_id_and_pages_by_cursor(api):
    rows = [CustomerFactory(name="Ann") for _ in range(5)]
    assert [row["id"] for row in search(api, "id", rows[2].pk).json()["customers"]] == [str(rows[2].pk)]
    assert search(api, "id", "x").json()["customers"] == []
    for order, expected in (("ascending", rows), ("descending", rows[::-1])):
        seen, page = [], {"per_page": 2}
        while True:
            sort = {"field": "created_at", "order": order}
            answered = search(api, "name", "Ann", sort=sort, pagination=page).json()
            seen += [row["id"] for row in answered["customers"]]
            if not answered["pages"]["next"]:
                break
            page = {"per_page": 2, "starting_after": answered["pages"]["next"]["starting_after"]}
        assert seen == [str(row.pk) for row in expected]


@pytest.mark.parametrize(
    ("query", "more", "field"),
    [
        ({"field": "shoe_size", "value": 1}, {}, "query.field"),
        ({"field": "signed_up_at", "value": 1}, {}, "query.field"),
        ({"value": 1}, {}, "query.field"),
        ({"field": "name"}, {}, "query.value"),
        ({"field": "name", "value": ["Ann"]}, {}, "query.value"),
        ({"field": "session_count", "value": "many"}, {}, "query.value"),
        ({"field": "role", "value": "boss"}, {}, "query.value"),
        ({"field": "unsubscribed_from_emails", "value": "perhaps"}, {}, "query.value"),
        ({"field": "name", "operator": "~", "value": "Ann"}, {}, "query.operator"),
        ({"operator": "AND", "value": []}, {}, "query.field"),
        ({"field": "name", "value": "Ann"}, {"sort": {"field": "name"}}, "sort.field"),
        ({"field": "name", "value": "Ann"}, {"sort": {"order": "up"}}, "sort.order"),
        ({"field": "name", "value": "Ann"}, {"pagination": {"per_page": -1}}, "pagination.per_page"),
        ({"field": "name", "value": "Ann"}, {"pagination": {"starting_after": "x"}}, "pagination.starting_after"),
    ],
)
def test_search_that_is_not_understood_names_the_field(api, query, more, field):
    answered = api.post("/api/customers/search", {"query": query, **more}, format="json")

    assert answered.status_code in (400, 404, 422)
    assert answered.json()["errors"][0]["field"] == field


def test_search_needs_only_the_right_to_read(ada):
    token = Integration.issue(name="Reader", rights=["read"])[1]

    assert search(client_with(f"Bearer {token}"), "name", "Ann").status_code == 200
