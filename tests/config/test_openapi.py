"""OpenAPI document: schemathesis checks the whole API against it."""

import inspect
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from audiences.api.base.ignored_keys import find_ignored_keys, readable_keys
from audiences.models import Integration, Job, JobTask, Notification, NotificationState, Subscription, Topic, Workspace
from config import openapi
from config.api_docs.descriptions import DESCRIPTIONS
from config.api_docs.examples import BODIES
from config.openapi import ADDRESS_OF, CALLS, document_path
from delivery.conversations import threads
from delivery.matching import direct
from delivery.visits import visit
from tests.factories import (
    AT,
    CompanyFactory,
    CompanyTagFactory,
    CustomerFactory,
    CustomerTagFactory,
    EventFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    SegmentFactory,
    TagFactory,
    TopicFactory,
    TopicOptOutFactory,
)
from tests.support.examples import FACTOR

pytestmark = pytest.mark.django_db

EXAMPLES = 6 * FACTOR
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Identifiers of the objects that exist in these tests.
KEY = 7_000_001
KNOWN: dict[str, Any] = {
    "id": str(KEY),
    "user_id": "u1",
    "email": "ann@x.example",
    "intercom_user_id": str(KEY),
    "admin_id": str(KEY),
    "assignee_id": str(KEY),
    "company_id": "c1",
    "tag_id": str(KEY),
    "segment_id": str(KEY),
    "subscription_id": str(KEY),
    "name": "Acme",
}
# Their responses are empty, and nothing is sent.
WITHOUT_CONTENT = {"DELETE /api/tags/{id}"}
METHODS = ("get", "post", "put", "patch", "delete")

api = schemathesis.openapi.from_wsgi("/api/schema?format=json", get_wsgi_application())
# Test every boundary of every field only in the longer run.
api.config.phases.coverage.enabled = EXAMPLES >= 50


def with_existing_ids(values: Any) -> Any:
    """Replace about half of the identifiers by those of existing objects."""
    if isinstance(values, dict):
        return {
            key: KNOWN[key] if key in KNOWN and len(str(value)) % 2 else with_existing_ids(value)
            for key, value in values.items()
        }
    return [with_existing_ids(value) for value in values] if isinstance(values, list) else values


@api.hook
def map_body(context, body):
    return with_existing_ids(body)


@api.hook
def map_query(context, query):
    return with_existing_ids(query)


@api.hook
def map_path_parameters(context, path_parameters):
    if context.operation.path == "/api/messages/{id}" and "id" in path_parameters:
        return {"id": f"msg_{KEY + 1}" if len(path_parameters["id"]) % 2 else f"umsg_{KEY}"}
    return with_existing_ids(path_parameters)


@pytest.fixture(autouse=True)
def one_connection() -> Iterator[None]:
    """Keep the test's transaction open between requests, as Django's own client does."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def token(settings, django_user_model) -> str:
    settings.API_RATE_LIMIT = 0
    Workspace.current()
    ada = django_user_model.objects.create(pk=KEY, username="ada", email="ada@acme.example", is_staff=True)
    customer = CustomerFactory(pk=KEY, user_id="u1", email="ann@x.example", name="Ann")
    CustomerFactory(pk=KEY + 1, lead=True, email="lee@x.example")
    company = CompanyFactory(pk=KEY, company_id="c1", name="Acme", plan="Pro")
    tag = TagFactory(pk=KEY)
    MembershipFactory(customer=customer, company=company)
    customer.devices.create(pk=KEY, token="a-phone", created_at=AT)
    CustomerTagFactory(customer=customer, tag=tag)
    TopicOptOutFactory(customer=customer, topic=TopicFactory(pk=KEY), source="api")
    CompanyTagFactory(company=company, tag=tag)
    SegmentFactory(pk=KEY)
    EventFactory(pk=KEY, customer=customer)
    EventSummaryFactory(customer=customer)
    customer.notes.create(pk=KEY, teammate=ada, body="Careful", created_at=AT)
    MessageFactory(in_app=True, live=True)
    MessageFactory(pk=KEY, live=True)
    visit.visit(customer, at=AT)
    message = MessageFactory(pk=KEY + 1, to_customer=customer, live=True)
    direct.insert_direct_record(customer, message, at=AT)
    begun = threads.open_by_customer(customer, body="Hello?", at=AT)
    threads.reply_by_teammate(begun, teammate=ada, body="Hi", at=AT)
    begun.parts.update(conversation=move(begun))
    subscription = Subscription.objects.create(
        pk=KEY, url="https://x.example/", topics=list(Topic), created_at=AT, updated_at=AT
    )
    for state in NotificationState:
        about = {"created_at": AT, "due_at": AT, "settled_at": AT, "detail": "It answered 500."}
        Notification.objects.create(subscription=subscription, topic=Topic.PING, state=state, **about)
    job = Job.objects.create(pk=KEY, key=str(KEY), created_at=AT, updated_at=AT)
    task = JobTask.objects.create(job=job, item_count=1, created_at=AT)
    task.items.create(method="post", data_type="user", data={"user_id": "x"}, error_code="conflict", error="No.")
    return Integration.issue(name="tests")[1]


def move(begun):
    """Change the conversation's key to KEY."""
    old, begun.pk = begun.pk, KEY
    begun.save(force_insert=True)
    begun.parts.model.objects.filter(conversation=old).update(conversation=KEY)
    type(begun).objects.filter(pk=old).delete()
    return KEY


@api.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 50,
    suppress_health_check=list(HealthCheck),
)
def test_every_response_matches_the_document_and_none_is_a_500(case, token):
    case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS)


def test_document_describes_exactly_the_existing_calls():
    routed = {(view, method) for view in ADDRESS_OF for method in METHODS if hasattr(view, method)}

    assert routed == {(view, method) for view, calls in CALLS.items() for method in calls}


def test_every_operation_has_a_description_and_valid_examples(client):
    document = client.get("/api/schema?format=json").json()
    schemas = document["components"]["schemas"]
    names = {
        f"{method.upper()} {document_path(view)}".replace("/api/", "/") for view in ADDRESS_OF for method in CALLS[view]
    }
    assert set(DESCRIPTIONS) == names
    assert set(BODIES) <= names
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method.upper()} {path}"
            assert len(operation["description"]) > 30, where
            assert operation["description"] != operation["summary"], where
            assert operation["description"].endswith((".", "`")), where
            assert operation["x-required-right"] in ("read", "write", "send"), where
            contents = [
                (operation["responses"].get("200") or {}).get("content"),
                operation.get("requestBody", {}).get("content"),
            ]
            assert any(contents) or where in WITHOUT_CONTENT, where
            for content in filter(None, contents):
                content = content["application/json"]
                whole = {"components": {"schemas": schemas}, **content["schema"]}
                jsonschema.Draft202012Validator(whole).validate(content["example"])
            if sent := contents[1]:
                keys = readable_keys(sent["application/json"]["schema"], schemas=schemas)
                assert list(find_ignored_keys(sent["application/json"]["example"], keys)) == [], where


def test_worked_examples_are_the_first_text_of_the_document(client):
    info = client.get("/api/schema?format=json").json()["info"]

    assert info["description"].count("## ") == 5
    for language in ("bash", "python", "javascript"):
        assert info["description"].count(f"```{language}\n") >= 5


def test_api_root_links_to_the_docs_without_a_token(client):
    for address in ("/api", "/api/"):
        links = client.get(address).json()["links"]
        for link in links.values():
            assert client.get(link.removeprefix("http://127.0.0.1:8000")).status_code == 200


def test_every_call_has_a_summary_sentence():
    for view, calls in CALLS.items():
        for method in calls:
            assert inspect.getdoc(getattr(view, method)), (view, method)


def test_document_refers_only_to_schemas_that_it_contains(client):
    document = client.get("/api/schema?format=json").json()

    named = set(find_refs(document))
    assert named == {f"#/components/schemas/{name}" for name in openapi.SCHEMAS}


def find_refs(value: Any):
    """Return every schema reference in the document."""
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        for inner in value.values():
            yield from find_refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from find_refs(inner)


def test_docs_need_no_token_and_load_nothing_from_other_hosts(client):
    for address in ("/api/docs", "/api/docs/"):
        page = client.get(address).content.decode()

        assert "swagger-ui" in page
        assert "https://" not in page.replace("https://fonts", "")
        assert "cdn" not in page
