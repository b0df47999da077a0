"""Traces of requests: named for the route, without path, query string or address."""

import pytest
from opentelemetry.trace import StatusCode

from tests.support.traces import recorded_spans

pytestmark = pytest.mark.django_db
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


@pytest.fixture
def spans(settings):
    with recorded_spans(settings) as memory:
        yield memory


def test_request_is_a_span_of_its_route_without_what_identifies_a_customer(spans, client):
    client.get("/pictures/secretpicture.png?email=ada@acme.example", headers={"User-Agent": "Adas browser"})

    (span,) = spans.get_finished_spans()
    assert span.attributes["http.response.status_code"] == 404
    assert span.name == f"GET {span.attributes['http.route']}"
    assert set(span.attributes) == {"http.request.method", "http.route", "http.response.status_code"}
    assert not any(word in span.to_json() for word in ("ada@", "Adas", "secretpicture", "127.0.0.1"))


def test_unknown_path_and_method_name_no_route(spans, client):
    client.generic("BREW", "/no/such/page-of-ada")

    (span,) = spans.get_finished_spans()
    assert span.name == "_OTHER"
    assert dict(span.attributes) == {"http.request.method": "_OTHER", "http.response.status_code": 404}


def test_server_error_fails_the_span_without_its_text(spans, client, monkeypatch):
    monkeypatch.setattr("outbound.composer.images.FILE_NAME", "not a pattern")
    client.raise_request_exception = False
    client.get("/pictures/secretpicture.png")

    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "500"
    assert not span.events


@pytest.mark.parametrize("is_trusted", [True, False])
def test_trace_of_the_caller_is_continued_only_behind_a_proxy(spans, client, settings, is_trusted):
    settings.BEHIND_PROXY = is_trusted

    client.get("/healthz", headers=PARENT)

    (span,) = spans.get_finished_spans()
    assert (f"{span.context.trace_id:032x}" == TRACE) is is_trusted
