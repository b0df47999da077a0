"""REST API of audiences over HTTP, as in docs/wire.md, and never a 500."""

import base64
import json
from datetime import timedelta
from io import BytesIO, StringIO
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkSize, NoMoreData
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from audiences import intake
from audiences.api import counts, segments
from audiences.intake import identify, record_event
from audiences.models import Company, CustomAttribute, Customer, Event, EventSummary, Integration, Tag
from audiences.models.catalogue import Scope
from audiences.urls import ADDRESSES
from tests.factories import (
    CompanyFactory,
    CompanyTagFactory,
    CustomAttributeFactory,
    CustomerFactory,
    CustomerTagFactory,
    MembershipFactory,
    SegmentFactory,
    TagFactory,
    rule,
)
from tests.support.examples import examples

pytestmark = pytest.mark.django_db

PRO = {"match": "all", "rules": [rule("custom_attributes.plan", "is", "pro")]}


@pytest.fixture(autouse=True)
def no_limit(settings):
    settings.API_RATE_LIMIT = 0


@pytest.fixture
def integration() -> Integration:
    return Integration.issue(name="The shop")


@pytest.fixture
def api(integration) -> APIClient:
    return client(integration[1])


def client(token: str) -> APIClient:
    client = APIClient(raise_request_exception=True)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def post(api: APIClient, address: str, body: object):
    return api.post(f"/api/{address}", body, format="json")


def errors(response) -> dict:
    """Return the only error of an error list."""
    answer = response.json()
    assert answer.keys() == {"type", "request_id", "errors"}
    assert answer["type"] == "error.list"
    [error] = answer["errors"]
    assert error.keys() <= {"code", "message", "field"}
    assert error["message"]
    return error


class TestAuthentication:
    def test_bearer_token_is_accepted(self, api):
        assert api.get("/api/admins").status_code == 200

    def test_token_as_basic_user_name_and_a_trailing_slash_are_accepted(self, integration):
        basic = base64.b64encode(f"{integration[1]}:".encode()).decode()
        official = APIClient()
        official.credentials(HTTP_AUTHORIZATION=f"Basic {basic}", HTTP_ACCEPT="application/json")

        made = official.post("/api/users/", '{"user_id": 25}', content_type="application/json")

        assert made.status_code == 200
        assert official.get("/api/users", {"user_id": "25"}).json()["id"] == made.json()["id"]

    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer nonsense-nonsense",
            "Bearer a b c",
            "Bearer \xff\xff\xff\xff\xff\xff\xff\xff",
            "Bearer null\0null\0",
            "Basic",
            "Basic %%%",
            f"Basic {base64.b64encode(b'no colon').decode()}",
            "Digest x",
            f"Bearer {'x' * 5000}",
        ],
    )
    def test_other_credentials_are_a_401_error_list(self, header):
        stranger = APIClient()
        if header is not None:
            stranger.credentials(HTTP_AUTHORIZATION=header)

        for answer in (stranger.get("/api/users"), stranger.post("/api/events/", {}), stranger.get("/api/nowhere")):
            assert answer.status_code == 401
            assert errors(answer) == {"code": "unauthorized", "message": "Access Token Invalid"}

    def test_basic_with_a_password_is_refused(self, integration):
        basic = base64.b64encode(f"{integration[1]}:secret".encode()).decode()

        assert APIClient(HTTP_AUTHORIZATION=f"Basic {basic}").get("/api/admins").status_code == 401

    def test_last_use_is_saved_at_most_once_a_minute(self, api, integration, time_machine, at):
        used = []
        for later in (0, 59, 60):
            time_machine.move_to(at + timedelta(seconds=later), tick=False)
            api.get("/api/admins")
            integration[0].refresh_from_db()
            used.append(integration[0].last_used_at)

        assert used == [at, at, at + timedelta(seconds=60)]

    def test_create_token_prints_only_a_working_token_to_standard_output(self):
        out = StringIO()

        call_command("create_token", "The shop", stdout=out, stderr=StringIO())

        token = out.getvalue().strip()
        assert client(token).get("/api/admins").status_code == 200
        user = Integration.objects.get(name="The shop").user
        assert not user.has_usable_password()
        assert not user.is_staff

    def test_rate_limit_is_enforced_and_sent_in_headers(self, api, settings, time_machine, at):
        settings.API_RATE_LIMIT = 18
        cache.clear()
        time_machine.move_to(at, tick=False)

        answers = [api.get("/api/admins") for _ in range(4)]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert [answer["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
        assert answers[0]["X-RateLimit-Reset"] == str(int(at.timestamp()) + 10)
        assert errors(answers[3])["code"] == "rate_limit_exceeded"
        time_machine.move_to(at + timedelta(seconds=10), tick=False)
        assert api.get("/api/admins").status_code == 200


class TestErrors:
    @pytest.mark.parametrize(
        ("body", "content_type", "status"),
        [
            (b"", "application/json", 400),
            (b"{}", "application/json", 400),
            (b"{", "application/json", 400),
            (b"[]", "application/json", 400),
            (b'"x"', "application/json", 400),
            (b"\xff\xfe", "application/json", 400),
            (b'{"user_id": NaN}', "application/json", 400),
            (b'{"user_id": 1e999}', "application/json", 400),
            (b'{"user_id": ' + b"9" * 5000 + b"}", "application/json", 400),
            (b'{"a":' * 100_000, "application/json", 400),
            (b'{"user_id": "\\ud800"}', "application/json", 400),
            (b'{"user_id": "\\u0000", "company_id": "\\u0000", "name": "\\u0000"}', "application/json", 400),
            (b"user_id=25", "application/x-www-form-urlencoded", 415),
            (b"user_id=25", "text/plain", 415),
            (b'{"user_id": "25"}', "", 415),
        ],
    )
    def test_invalid_body_is_an_error_list(self, api, body, content_type, status):
        for address in ("users", "companies/", "events", "tags"):
            answer = api.generic("POST", f"/api/{address}", body, content_type=content_type)

            assert answer.status_code == status, (address, answer.content)
            errors(answer)

    def test_unknown_charset_is_ignored(self, api):
        answer = api.generic("POST", "/api/users", b'{"user_id": 1}', content_type="application/json; charset=rot13")

        assert answer.status_code == 200

    def test_chunked_body_is_accepted(self, api, settings):
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
        in_chunks = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "", "wsgi.input_terminated": True}

        def sent(body: bytes) -> Any:
            given = {**in_chunks, "wsgi.input": BytesIO(body)}
            return api.generic("POST", "/api/users", b"", content_type="application/json", **given)

        assert sent(b'{"user_id": "25"}').json()["user_id"] == "25"
        assert errors(sent(b"{"))["code"] == "bad_request"
        assert sent(b'{"user_id": "25", "name": "' + b"x" * 100 + b'"}').status_code == 413

    @pytest.mark.parametrize(
        "broken", [InvalidChunkSize(b"zz"), ChunkMissingTerminator(b"xx"), NoMoreData(b""), ConnectionResetError()]
    )
    @pytest.mark.parametrize("address", ["/api/users", "/messenger/ping"])
    def test_body_in_invalid_chunks_is_a_400_with_a_reason(self, api, address, broken):
        stream = Mock(read=Mock(side_effect=broken))
        in_chunks = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "", "wsgi.input_terminated": True}

        given = {**in_chunks, "wsgi.input": stream}
        answer = api.generic("POST", address, b"", content_type="application/json", **given)

        assert answer.status_code == 400
        assert "chunks are invalid" in errors(answer)["message"]

    def test_a_body_too_large_is_a_413(self, api, settings):
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100

        answer = post(api, "users", {"user_id": "25", "name": "x" * 100})

        assert answer.status_code == 413
        errors(answer)

    def test_a_wrong_method_is_a_405(self, api):
        for address in ("users", "companies", "events", "tags", "segments", "counts", "admins"):
            answer = api.put(f"/api/{address}", {}, format="json")

            assert answer.status_code == 405
            errors(answer)

    def test_an_unknown_address_is_a_404_with_every_method(self, api):
        for method in ("get", "post", "put", "delete", "options"):
            # GET /api/ links to the documentation.
            root = () if method == "get" else ("/api", "/api/")
            for address in (*root, "/api/nonsense", "/api/users/1/nonsense", "/api/users//"):
                answer = getattr(api, method)(address)

                assert answer.status_code == 404
                assert errors(answer)["code"] == "not_found"

    @pytest.mark.parametrize("pk", ["0", "-1", "abc", "1.5", "9" * 30, "%00", "%ff", "٣"])
    def test_invalid_id_is_a_404(self, api, pk):
        for address in ("users", "companies", "segments"):
            answer = api.get(f"/api/{address}/{pk}")

            assert answer.status_code in (400, 404)
            errors(answer)

    @pytest.mark.parametrize(
        "query",
        [
            "page=0",
            "page=x",
            "page=1e400",
            "per_page=-1",
            "tag_id=x",
            "tag_id=99",
            "tag_id=%00",
            "tag_id=99999999999999999999999",
            "segment_id=99",
            "created_since=-1",
            "created_since=1e99",
            "created_since=NaN",
            "sort=password",
            "order=up",
            "email=%00",
            "user_id=%00",
        ],
    )
    def test_list_with_invalid_parameters_is_refused(self, api, query):
        assert errors(api.get(f"/api/users?{query}"))["field"] in query or "sort" in query or "order" in query

    @pytest.mark.parametrize("query", ["tag_id=99", "segment_id=x"])
    @pytest.mark.parametrize("address", ["users", "companies", "contacts"])
    def test_unknown_tag_or_segment_is_a_404_that_names_it(self, api, address, query):
        answer = api.get(f"/api/{address}?{query}")

        field, _, value = query.partition("=")
        assert (answer.status_code, errors(answer)["message"]) == (404, f"No such {field}[{value}]")

    def test_a_conflict_is_a_409_that_names_both_fields(self, api):
        one = CustomerFactory(user_id="1")
        CustomerFactory(user_id="2")

        answer = post(api, "users", {"id": str(one.pk), "user_id": "2"})

        assert answer.status_code == 409
        assert errors(answer) == {
            "code": "conflict",
            "message": f"id {one.pk} and user_id 2 belong to different users.",
            "field": "user_id",
        }

    def test_attribute_of_the_wrong_kind_is_in_a_warning_and_the_rest_is_stored(self, api):
        post(api, "users", {"user_id": "25", "custom_attributes": {"age": 7}})

        answer = post(api, "users", {"user_id": "25", "name": "Joe", "custom_attributes": {"age": "old", "new": 1}})

        assert answer.status_code == 200
        assert answer.json()["warnings"] == [
            {
                "code": "attribute_not_stored",
                "message": "The custom attribute “age” is a number; “old” is not a valid value for it.",
                "field": "age",
            }
        ]
        customer = Customer.objects.get()
        assert (customer.name, customer.attributes) == ("Joe", {"age": 7, "new": 1})

    @pytest.mark.parametrize(
        ("path", "who"),
        [("users", {"user_id": "25"}), ("contacts", {"email": "lee@x.example"}), ("companies", {"company_id": "6"})],
    )
    @pytest.mark.parametrize(
        ("name", "value"), [("seats", "many"), ("list", [1]), ("a.b", 1), ("n" * 200, 1), ("long", "x" * 300)]
    )
    def test_invalid_attribute_does_not_prevent_storing_the_rest(self, api, path, who, name, value):
        for scope in ("customer", "company"):
            CustomAttributeFactory(name="seats", kind="number", scope=scope)

        answer = post(api, path, {**who, "name": "Joe", "custom_attributes": {name: value, "plan": "pro"}})

        assert answer.status_code == 200
        assert (answer.json()["name"], answer.json()["custom_attributes"]) == ("Joe", {"plan": "pro"})
        assert [warning["field"] for warning in answer.json()["warnings"]] == [name[:190]]

    def test_full_attribute_catalogue_does_not_lose_the_user_and_the_warning_gives_advice(self, api):
        post(api, "users", {"user_id": "25", "custom_attributes": {f"a{n}": 1 for n in range(250)}})

        answer = post(api, "users", {"user_id": "26", "custom_attributes": {"a1": 2, "more": 1}})

        assert answer.json()["custom_attributes"] == {"a1": 2}
        assert "Retire" in answer.json()["warnings"][0]["message"]

    def test_invalid_attribute_of_a_users_company_loses_neither_user_nor_company(self, api):
        CustomAttributeFactory(name="seats", kind="number", scope="company")

        company = {"company_id": "6", "name": "Acme", "custom_attributes": {"seats": "many"}}
        answer = post(api, "users", {"user_id": "25", "companies": [company]})

        assert [warning["field"] for warning in answer.json()["warnings"]] == ["seats"]
        assert Company.objects.get().name == "Acme"

    def test_fully_stored_request_has_no_warnings(self, api):
        assert "warnings" not in post(api, "users", {"user_id": "25", "custom_attributes": {"plan": "pro"}}).json()

    @pytest.mark.parametrize("broken", [[1], "plan", 5])
    @pytest.mark.parametrize(
        ("path", "who"), [("users", {"user_id": "25"}), ("contacts", {}), ("companies", {"company_id": "6"})]
    )
    def test_attributes_that_are_not_an_object_are_refused(self, api, path, who, broken):
        answer = post(api, path, {**who, "custom_attributes": broken})

        assert answer.status_code == 400
        assert errors(answer)["field"] == "custom_attributes"

    def test_warnings_are_limited_in_number(self, api):
        answer = post(api, "users", {"user_id": "25", "custom_attributes": {f"a{n}": [] for n in range(3000)}})

        assert len(answer.json()["warnings"]) == 100


class TestUsers:
    def test_post_returns_the_full_user(self, api, time_machine, at):
        time_machine.move_to(at, tick=False)
        SegmentFactory(name="Everybody")
        sent = {
            "user_id": 25,
            "email": "Joe@Example.com",
            "name": "Joe",
            "signed_up_at": 1392731331,
            "last_request_at": 1397574667,
            "last_seen_ip": "1.2.3.4",
            "unsubscribed_from_emails": False,
            "location_data": {"city_name": "Dublin", "country_code": "IRL", "latitude": 53.1},
            "companies": [{"company_id": 366, "name": "Serenity"}],
            "custom_attributes": {"paid": True, "last_order_at": 1475569818},
            "tag_or_untag": "unknown keys are ignored",
        }

        answer = post(api, "users", sent).json()

        [company] = answer["companies"]["companies"]
        [segment] = answer["segments"]["segments"]
        assert (company["company_id"], company["name"], segment["name"]) == ("366", "Serenity", "Everybody")
        for key, expected in {
            "type": "user",
            "id": str(Customer.objects.get().pk),
            "user_id": "25",
            "anonymous": False,
            "email": "joe@example.com",
            "phone": None,
            "signed_up_at": 1392731331,
            "remote_created_at": 1392731331,
            "last_request_at": 1397574667,
            "created_at": int(at.timestamp()),
            "session_count": 0,
            "tags": {"type": "tag.list", "tags": []},
            "custom_attributes": {"paid": True, "last_order_at": 1475569818},
            "avatar": {"type": "avatar", "image_url": None},
        }.items():
            assert answer[key] == expected, key
        assert answer["location_data"]["city_name"] == "Dublin"
        assert answer["location_data"]["country_code"] == "IRL"
        assert answer.keys() >= {"app_id", "pseudonym", "updated_at", "social_profiles", "marked_email_as_spam"}
        assert answer.keys() >= {"has_hard_bounced", "user_agent_data", "referrer", "utm_campaign", "owner_id"}

    def test_every_time_in_every_response_is_an_integer(self, api):
        identify(
            {"user_id": "25", "update_last_request_at": True, "companies": [{"company_id": "6"}]}, at=timezone.now()
        )

        def times(shape: object):
            if isinstance(shape, dict):
                for key, value in shape.items():
                    if key.endswith("_at") and value is not None:
                        yield value
                    yield from times(value)
            elif isinstance(shape, list):
                for value in shape:
                    yield from times(value)

        for address in ("users?user_id=25", "users", "companies?company_id=6", "companies"):
            found = list(times(api.get(f"/api/{address}").json()))
            assert found
            assert all(type(value) is int for value in found)

    def test_response_can_be_sent_back_as_a_request(self, api):
        first = post(api, "users", {"user_id": "25", "name": "Joe", "companies": [{"company_id": "6", "plan": "a"}]})

        again = post(api, "users", first.json())

        assert again.status_code == 200
        assert again.json() == first.json()

    def test_found_by_id_user_id_or_email(self, api):
        customer = CustomerFactory(user_id="25", email="a@example.com")

        for address in (f"users/{customer.pk}", "users?user_id=25", "users?email=A@example.com"):
            assert api.get(f"/api/{address}").json()["id"] == str(customer.pk)

    def test_unknown_user_is_a_404(self, api):
        answer = api.get("/api/users", {"user_id": "314"})

        assert answer.status_code == 404
        assert errors(answer) == {"code": "not_found", "message": "No such user_id[314]", "field": "user_id"}

    def test_delete_archives_and_post_restores(self, api):
        customer = CustomerFactory(user_id="25")

        assert api.delete(f"/api/users/{customer.pk}").json()["user_id"] == "25"
        assert api.get("/api/users?user_id=25").status_code == 404
        assert api.get("/api/users").json()["total_count"] == 0

        assert post(api, "users", {"user_id": "25"}).json()["id"] == str(customer.pk)

    def test_list_is_traversed_by_its_next_links(self, api):
        for n in range(5):
            CustomerFactory(user_id=str(n), created_at=timezone.now() + timedelta(minutes=n))
        CustomerFactory(lead=True)

        first = api.get("/api/users?per_page=2").json()
        second = api.get(first["pages"]["next"]).json()
        third = api.get(second["pages"]["next"]).json()

        walked = [user["user_id"] for page in (first, second, third) for user in page["users"]]
        assert walked == ["4", "3", "2", "1", "0"]
        assert first["type"] == "user.list"
        assert first["total_count"] == 5
        assert first["pages"].items() >= {"type": "pages", "page": 1, "per_page": 2, "total_pages": 3}.items()
        assert third["pages"]["next"] is None

    def test_list_is_sorted_as_requested(self, api):
        now = timezone.now()
        for days in (2, 1, 3):
            CustomerFactory(user_id=str(days), last_seen_at=now - timedelta(days))
        CustomerFactory(user_id="never")

        found = api.get("/api/users?sort=last_request_at&order=asc").json()["users"]

        assert [user["user_id"] for user in found] == ["3", "2", "1", "never"]

    def test_list_is_filtered_by_tag_segment_and_days(self, api):
        CustomAttribute.objects.create(scope=Scope.CUSTOMER, name="plan", kind="text", created_at=timezone.now())
        tagged = CustomerTagFactory(customer__user_id="tagged")
        CustomerFactory(user_id="pro", attributes={"plan": "pro"})
        CustomerFactory(user_id="new", created_at=timezone.now())
        segment = SegmentFactory(rules=PRO)

        def found(query: str) -> set[str]:
            return {user["user_id"] for user in api.get(f"/api/users?{query}").json()["users"]}

        Customer.objects.exclude(user_id="new").update(created_at=timezone.now() - timedelta(days=3))
        assert found(f"tag_id={tagged.tag_id}") == {"tagged"}
        assert found(f"segment_id={segment.pk}") == {"pro"}
        assert found("created_since=1") == {"new"}

    def test_page_of_users_needs_as_many_queries_as_one_user(self, api, django_assert_max_num_queries):
        for _ in range(20):
            MembershipFactory()
        SegmentFactory()

        with django_assert_max_num_queries(16):
            assert len(api.get("/api/users").json()["users"]) == 20


class TestCompanies:
    def test_post_upserts_and_returns_the_full_company(self, api):
        sent = {
            "company_id": 6,
            "name": "Acme",
            "plan": "Paid",
            "monthly_spend": 49.99,
            "size": 85,
            "website": "https://acme.example",
            "industry": "Rockets",
            "remote_created_at": 1392731331,
            "custom_attributes": {"seats": 3},
        }

        first, second = post(api, "companies", sent).json(), post(api, "companies/", {"company_id": "6"}).json()

        assert first == second
        expected = {
            **sent,
            "company_id": "6",
            "monthly_spend": 49,
            "plan": {"type": "plan", "id": "Paid", "name": "Paid"},
        }
        assert first.items() >= expected.items()
        assert first["id"] == str(Company.objects.get().pk)
        assert first.keys() >= {"app_id", "created_at", "updated_at", "last_request_at"}
        assert first.keys() >= {"session_count", "user_count", "tags", "segments"}

    def test_company_id_is_required(self, api):
        answer = post(api, "companies", {"name": "Acme"})

        assert answer.status_code == 400
        assert errors(answer)["field"] == "company_id"

    def test_found_by_id_company_id_or_name(self, api):
        company = CompanyFactory(company_id="6", name="Acme")

        for address in (f"companies/{company.pk}", "companies?company_id=6", "companies?name=Acme"):
            assert api.get(f"/api/{address}").json()["id"] == str(company.pk)
        assert api.get("/api/companies?name=Nobody").status_code == 404

    def test_listed_with_their_present_users_counted(self, api):
        company = MembershipFactory(company__company_id="6").company
        MembershipFactory(company=company, customer__archived=True)

        answer = api.get("/api/companies").json()

        assert answer["total_count"] == 1
        assert answer["companies"][0]["user_count"] == 1

    def test_listed_by_tag_and_by_segment(self, api):
        tagged = CompanyTagFactory(company__company_id="tagged")
        MembershipFactory(company__company_id="joined")
        segment = SegmentFactory()

        def found(query: str) -> set[str]:
            return {company["company_id"] for company in api.get(f"/api/companies?{query}").json()["companies"]}

        assert found(f"tag_id={tagged.tag_id}") == {"tagged"}
        assert found(f"segment_id={segment.pk}") == {"joined"}
        assert api.get("/api/companies?tag_id=99").status_code == 404

    def test_users_of_a_company_are_listed(self, api):
        membership = MembershipFactory(company__company_id="6")
        CustomerFactory()

        for address in (f"companies/{membership.company_id}/users", "companies?company_id=6&type=user"):
            [user] = api.get(f"/api/{address}").json()["users"]
            assert user["id"] == str(membership.customer_id)


class TestEvents:
    def test_event_and_its_duplicate_are_an_empty_202(self, api):
        CustomerFactory(user_id="25")
        event = {"event_name": "Invited.Friend", "created_at": 1389913941, "user_id": 25, "metadata": {"who": "Ann"}}

        for _ in range(2):
            answer = post(api, "events/", event)
            assert (answer.status_code, answer.content) == (202, b"")

        assert Event.objects.get().name == "invited-friend"
        assert EventSummary.objects.get().count == 1

    def test_event_of_an_unknown_user_is_a_404(self, api):
        answer = post(api, "events", {"event_name": "x", "created_at": 1389913941, "email": "nobody@example.com"})

        assert answer.status_code == 404
        assert errors(answer)["message"] == "No such email[nobody@example.com]"

    def test_events_are_listed_newest_first_and_traversed_by_next(self, api):
        customer, now = CustomerFactory(user_id="25"), timezone.now()
        for days in (1, 2, 3, 100):
            record_event(customer, f"day-{days}", now - timedelta(days), {"n": days}, at=now)

        first = api.get("/api/events?type=user&user_id=25&per_page=2").json()
        second = api.get(first["pages"]["next"]).json()

        assert [event["event_name"] for event in first["events"] + second["events"]] == ["day-1", "day-2", "day-3"]
        assert second["pages"]["next"] is None
        assert first["events"][0].items() >= {"type": "event", "user_id": "25", "metadata": {"n": 1}}.items()

    def test_events_are_summarised(self, api, at):
        customer = CustomerFactory(user_id="25")
        record_event(customer, "ordered", at - timedelta(days=1), None, at=at)
        record_event(customer, "ordered", at, None, at=at)

        answer = api.get("/api/events?type=user&user_id=25&summary=true").json()

        assert answer["type"] == "event.summary"
        assert answer["user_id"] == "25"
        assert answer["events"] == [
            {
                "name": "ordered",
                "first": "2026-05-03T10:00:00.000+00:00",
                "last": "2026-05-04T10:00:00.000+00:00",
                "count": 2,
                "description": None,
            }
        ]


class TestTags:
    def test_tag_is_created_renamed_listed_and_deleted(self, api):
        made = post(api, "tags/", {"name": "VIP"}).json()
        assert made == {"type": "tag", "id": str(Tag.objects.get().pk), "name": "VIP"}
        assert post(api, "tags", {"name": "vip"}).json()["id"] == made["id"]

        assert post(api, "tags", {"id": made["id"], "name": "Best"}).json()["name"] == "Best"
        assert api.get("/api/tags").json() == {"type": "tag.list", "tags": [{**made, "name": "Best"}]}

        assert api.delete(f"/api/tags/{made['id']}").status_code == 200
        assert api.get("/api/tags").json()["tags"] == []

    def test_tag_is_added_to_and_removed_from_users(self, api):
        one, two = CustomerFactory(user_id="1"), CustomerFactory(user_id="2", email="two@example.com")
        post(api, "tags", {"name": "vip", "users": [{"user_id": "1"}, {"email": "two@example.com"}]})

        post(api, "tags", {"name": "VIP", "users": [{"id": str(one.pk), "untag": True}], "tag_or_untag": "untag"})

        assert list(Tag.objects.get().customers.all()) == [two]

    def test_tag_is_added_to_companies(self, api):
        company = CompanyFactory(company_id="6")

        post(api, "tags", {"name": "vip", "companies": [{"company_id": 6}]})

        assert list(Tag.objects.get().companies.all()) == [company]

    def test_all_or_none_are_tagged(self, api):
        CustomerFactory(user_id="1")

        answer = post(api, "tags", {"name": "vip", "users": [{"user_id": "1"}, {"user_id": "nobody"}]})

        assert answer.status_code == 404
        assert not Tag.objects.exists()

    @pytest.mark.parametrize(
        "body",
        [
            {"name": ""},
            {"name": "vip", "users": [{"user_id": "1"}], "companies": [{"company_id": "6"}]},
            {"name": "vip", "users": [{"user_id": str(n)} for n in range(51)]},
            {"name": "vip", "users": ["1"]},
            {"name": "vip", "users": [{}]},
        ],
    )
    def test_invalid_body_is_refused(self, api, body):
        answer = post(api, "tags", body)

        assert answer.status_code == 400
        errors(answer)

    def test_name_of_another_tag_is_a_409(self, api):
        TagFactory(name="one")

        assert post(api, "tags", {"id": TagFactory().pk, "name": "ONE"}).status_code == 409

    def test_tag_used_in_rules_cannot_be_deleted(self, api):
        label = TagFactory()
        nested = {"match": "any", "rules": [{"match": "all", "rules": [rule("tag", "is_not", label.pk)]}]}
        SegmentFactory(rules=nested)

        assert api.delete(f"/api/tags/{label.pk}").status_code == 409
        assert api.delete(f"/api/tags/{TagFactory().pk}").status_code == 200


class TestSegmentsAndCounts:
    def test_segments_are_listed_and_counted_by_their_rules(self, api):
        CustomAttribute.objects.create(scope=Scope.CUSTOMER, name="plan", kind="text", created_at=timezone.now())
        CustomerFactory(attributes={"plan": "pro"})
        CustomerFactory()
        segment = SegmentFactory(name="Pro", rules=PRO)

        assert "count" not in api.get("/api/segments").json()["segments"][0]
        [counted] = api.get("/api/segments?include_count=True").json()["segments"]
        assert counted == api.get(f"/api/segments/{segment.pk}").json()
        expected = {"type": "segment", "id": str(segment.pk), "name": "Pro", "person_type": "user", "count": 1}
        assert counted.items() >= expected.items()
        assert api.get("/api/segments?type=company").json() == {"type": "segment.list", "segments": []}

    def test_counts_of_all_types(self, api):
        CustomerFactory(archived=True)
        CustomerFactory(lead=True)
        MembershipFactory()
        TagFactory()
        SegmentFactory()

        assert api.get("/api/counts").json() == {
            "type": "count.hash",
            "company": {"count": 1},
            "user": {"count": 1},
            "lead": {"count": 1},
            "tag": {"count": 1},
            "segment": {"count": 1},
        }

    @pytest.mark.parametrize(
        ("query", "counted"),
        [
            ("type=user", {"user": {"count": 2}}),
            ("type=user&count=segment", {"user": {"segment": [{"All": 2}]}}),
            ("type=user&count=tag", {"user": {"tag": [{"vip": 1}]}}),
            ("type=company&count=tag", {"company": {"tag": [{"vip": 0}]}}),
            ("type=company&count=segment", {"company": {"segment": []}}),
            ("type=company&count=user", {"company": {"user": [{"Acme": 1}]}}),
        ],
    )
    def test_counts_by_group(self, api, query, counted):
        CustomerTagFactory(tag__name="vip")
        MembershipFactory(company__name="Acme")
        SegmentFactory(name="All")

        assert api.get(f"/api/counts?{query}").json() == {"type": "count", **counted}

    def test_many_segments_are_counted_by_as_many_statements_as_one(self, api):
        CustomAttribute.objects.create(scope=Scope.CUSTOMER, name="plan", kind="text", created_at=timezone.now())
        CustomerFactory(attributes={"plan": "pro"})
        CustomerFactory(lead=True)
        attribute = CustomAttributeFactory(name="gone")
        gone = {"match": "all", "rules": [rule("custom_attributes.gone", "is_unknown")]}
        role = {"match": "all", "rules": [rule("role", "is", "lead")]}
        in_company = {"match": "all", "rules": [rule("company.company_id", "is_unknown")]}
        SegmentFactory(name="a", rules=PRO)

        def statements(address: str) -> int:
            with CaptureQueriesContext(connection) as done:
                assert api.get(address).status_code == 200
            return len(done)

        addresses = ("/api/counts?type=user&count=segment", "/api/segments?include_count=true")
        api.get(addresses[0])
        for_one = [statements(address) for address in addresses]
        for number, rules in enumerate((PRO, gone, role, in_company) * 3):
            SegmentFactory(name=f"b{number:02}", rules=rules)
        attribute.delete()

        assert [statements(address) for address in addresses] == for_one
        counted = api.get(addresses[0]).json()["user"]["segment"]
        assert [next(iter(pair.values())) for pair in counted] == [1, *(1, 0, 1, 1) * 3]
        assert [segment["count"] for segment in api.get(addresses[1]).json()["segments"]] == [1, *(1, 0, 1, 1) * 3]

    def test_segment_that_takes_too_long_is_null_and_the_rest_is_counted(self, api, monkeypatch):
        CustomAttribute.objects.create(scope=Scope.CUSTOMER, name="plan", kind="text", created_at=timezone.now())
        CustomerFactory(attributes={"plan": "pro"})
        quick, slow = SegmentFactory(name="quick", rules=PRO), SegmentFactory(name="slow", rules=PRO)
        members_of = segments.members_of

        def slowly(rows, **which):
            members, params = members_of(rows, **which)
            kept = {pk: f"{sql} AND pg_sleep(60) IS NOT NULL" if pk == slow.pk else sql for pk, sql in members.items()}
            return kept, params

        monkeypatch.setattr(segments, "members_of", slowly)
        monkeypatch.setattr(segments, "COUNT_TIMEOUT", timedelta(seconds=1.5))

        listed = api.get("/api/segments?include_count=true").json()["segments"]
        by_id = [api.get(f"/api/segments/{row.pk}").json()["count"] for row in (quick, slow)]
        in_all = api.get("/api/counts?type=user&count=segment")

        assert ([row["count"] for row in listed], by_id) == ([1, None], [1, None])
        assert (in_all.status_code, errors(in_all)["code"]) == (503, "service_unavailable")
        assert "slow" in errors(in_all)["message"]

    @pytest.mark.parametrize("address", ["/api/segments?include_count=true", "/api/segments/{pk}?include_count=true"])
    def test_single_segment_gets_the_whole_time(self, api, monkeypatch, address):
        row = SegmentFactory()
        given: list[float] = []
        monkeypatch.setattr(segments, "counts_within", lambda _rows, *, at, seconds: given.append(seconds))

        answer = api.get(address.format(pk=row.pk)).json()

        assert answer.get("segments", [answer])[0]["count"] is None
        assert given == [12]

    def test_largest_companies_are_counted_in_one_statement(self, api, monkeypatch):
        for number in range(4):
            company = CompanyFactory(company_id=str(number), name=f"c{number}")
            MembershipFactory.create_batch(number, company=company)
        MembershipFactory(customer__archived=True, company=CompanyFactory(company_id="5"))
        monkeypatch.setattr(counts, "MAX_LISTED", 2)

        with CaptureQueriesContext(connection) as done:
            answer = api.get("/api/counts?type=company&count=user").json()

        assert answer["company"]["user"] == [{"c3": 3}, {"c2": 2}]
        assert sum("audiences_membership" in query["sql"] for query in done) == 1

    def test_most_used_tags_are_counted(self, api, monkeypatch):
        for name, number in (("rare", 1), ("common", 3), ("some", 2)):
            CustomerTagFactory.create_batch(number, tag=TagFactory(name=name))
        monkeypatch.setattr(counts, "MAX_LISTED", 2)

        assert api.get("/api/counts?type=user&count=tag").json()["user"]["tag"] == [{"common": 3}, {"some": 2}]

    def test_unknown_count_is_refused(self, api):
        assert api.get("/api/counts?type=user&count=shoe").status_code == 400

    def test_admins_are_staff_and_not_integrations(self, api, django_user_model):
        django_user_model.objects.create(
            username="ada", first_name="Ada", last_name="L", email="a@x.example", is_staff=True
        )
        django_user_model.objects.create(username="gone", is_staff=True, is_active=False)

        answer = api.get("/api/admins").json()

        assert answer["type"] == "admin.list"
        [admin] = answer["admins"]
        assert admin.items() >= {"type": "admin", "name": "Ada L", "email": "a@x.example", "team_ids": []}.items()


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(
        ["25", "a@example.com", 10**400, "\0", "\ud800", "undefined", -(2**63), 1500000000, "x" * 300, 1e300]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = {
    "users": """id user_id email name phone signed_up_at created_at last_request_at update_last_request_at new_session
        last_seen_ip last_seen_user_agent unsubscribed_from_emails companies custom_attributes location_data utm_source
        twitter_followers ios_last_seen_at avatar""",
    "companies": "id company_id name plan monthly_spend size website industry remote_created_at custom_attributes",
    "events": "id user_id email intercom_user_id event_name created_at metadata",
    "tags": "id name users companies",
}

PARAMETERS = """user_id email id type summary before page per_page sort order tag_id segment_id created_since
    include_count count company_id name format"""


@st.composite
def requests(draw):
    """Draw an address, and a body with arbitrary values in the fields that it accepts."""
    address = draw(st.sampled_from(sorted(FIELDS)))
    fields = FIELDS[address].split()
    body = draw(st.dictionaries(st.sampled_from(fields) | st.text(max_size=5), anything, max_size=6))
    if draw(st.booleans()):
        body |= {"user_id": "25"} if address in ("users", "events") else {"company_id": "6", "name": "vip"}
    if address == "events" and draw(st.booleans()):
        body["event_name"] = "ordered"
    nested = draw(st.sampled_from(["", "companies", "users", "location_data"]))
    if nested in fields:
        inner = [*FIELDS["companies" if nested == "companies" else "users"].split(), "remove", "timezone", "untag"]
        entry = draw(st.dictionaries(st.sampled_from(inner), anything, max_size=4))
        body[nested] = entry if nested == "location_data" else [entry]
    return address, body


@examples(100)
@given(requests())
def test_any_post_is_accepted_or_refused_with_a_reason(api, request):
    Customer.objects.get_or_create(user_id="25", defaults={"created_at": timezone.now(), "updated_at": timezone.now()})
    address, body = request

    answer = api.generic("POST", f"/api/{address}", json.dumps(body), content_type="application/json")

    assert answer.status_code in (200, 202, 400, 404, 409)
    if answer.status_code >= 400:
        errors(answer)
    elif answer.content:
        json.loads(answer.content, parse_constant=pytest.fail)


@examples(50)
@given(
    address=st.sampled_from(sorted({address for address in ADDRESSES if "(" not in address})),
    query=st.dictionaries(
        st.sampled_from(PARAMETERS.split()),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.integers().map(str) | st.just("user"),
        max_size=4,
    ),
)
def test_any_query_is_answered_or_refused_with_a_reason(api, address, query):
    answer = api.get(f"/api/{address}", query)

    # Some addresses take only a POST.
    assert answer.status_code in (200, 400, 404, 405)
    if answer.status_code >= 400:
        errors(answer)


@pytest.mark.parametrize("failing", [OperationalError("gone"), psycopg.errors.DeadlockDetected("each for the other")])
def test_temporary_database_error_is_a_503_that_says_to_try_again(api, monkeypatch, failing):
    def fails(*_args: object, **_how: object) -> None:
        raise failing

    monkeypatch.setattr(intake, "identify", fails)

    answered = post(api, "users", {"user_id": "1"})

    assert (answered.status_code, errors(answered)["code"]) == (503, "service_unavailable")
