"""Traces: spans of rounds, batches and copies of the real engine, without personal data."""

import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.utils import timezone
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import StatusCode

from delivery.channels import email as email_channel
from delivery.matching import rounds
from delivery.models import DeliveryRecord, Status
from delivery.sending import dispatcher
from delivery.telemetry import tracing
from tests.factories import CustomerFactory, MessageFactory
from tests.support.traces import recorded_spans, spans_named

pytestmark = pytest.mark.django_db(transaction=True)
# None is a hexadecimal number, as a key of a span may contain that.
SECRETS = ("yvonne", "Ada", "refused", "acme.example", "Dear Ada", "hello from")


@pytest.fixture
def spans(settings):
    with recorded_spans(settings) as memory:
        yield memory


@pytest.fixture
def ada_and_refused(monkeypatch):
    """Two customers, of whom the mail server refuses one by an error that quotes the address; and a live email."""
    CustomerFactory(email="yvonne@acme.example", name="Ada")
    CustomerFactory(email="refused@acme.example", name="Ada")
    send = email_channel.Email.send_noting

    def send_or_refuse(self, envelope, *, begins):
        if "refused" in f"{envelope.to}":
            raise OSError(f"{envelope.to} broke the connection")
        return send(self, envelope, begins=begins)

    monkeypatch.setattr(email_channel.Email, "send_noting", send_or_refuse)
    return MessageFactory(live=True, at=timezone.now(), subject="Dear Ada", body="<p>hello from us</p>")


def send_all() -> None:
    now = timezone.now()
    rounds.run_round(at=now)
    dispatcher.dispatch(clock=timezone.now, until=now + timedelta(seconds=30))


def test_round_batch_and_copies_are_spans_with_their_counts_and_results(spans, ada_and_refused):
    send_all()

    (round_,), (match,) = spans_named(spans, "round"), spans_named(spans, "full match")
    (batch,), copies = spans_named(spans, "batch"), spans_named(spans, "copy")
    sent = DeliveryRecord.objects.get(status=Status.SENT)
    assert round_.attributes["outbound.records"] == match.attributes["outbound.records"] == 2
    assert match.parent.span_id == round_.context.span_id
    assert dict(batch.attributes) == {
        "outbound.message": ada_and_refused.pk,
        "outbound.channel": "email",
        "outbound.records": 2,
        "outbound.copies": 2,
        "outbound.handed_over": 2,
    }
    assert {copy.parent.span_id for copy in copies} == {batch.context.span_id}
    by_record = {copy.attributes["outbound.record"]: copy for copy in copies}
    failed = by_record.pop(DeliveryRecord.objects.exclude(pk=sent.pk).get().pk)
    assert by_record[sent.pk].status.status_code is StatusCode.UNSET
    assert (failed.status.status_code, failed.attributes["error.type"]) == (StatusCode.ERROR, "OSError")
    assert batch.start_time <= min(copy.start_time for copy in copies)
    assert batch.end_time >= max(copy.end_time for copy in copies)


def test_spans_of_the_engine_hold_no_address_name_or_text(spans, ada_and_refused):
    send_all()

    exported = " ".join(span.to_json() for span in spans.get_finished_spans())
    assert "OSError" in exported
    assert [word for word in SECRETS if word in exported] == []


def test_claim_of_nothing_exports_no_batch(spans):
    MessageFactory(live=True, at=timezone.now())

    send_all()

    assert spans_named(spans, "round")
    assert not spans_named(spans, "batch")


def test_without_traces_nothing_is_started(settings, ada_and_refused, monkeypatch):
    monkeypatch.setattr(tracing, "tracer_provider", None)
    assert settings.TRACING is False

    send_all()

    assert tracing.start_span("copy") is tracing.NO_SPAN


def test_collector_receives_the_spans_over_http(settings, monkeypatch):
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        settings.TRACING = True
        rounds.run_round(at=timezone.now())
        tracing.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)

    ((path, request),) = received
    (resource,) = request.resource_spans
    about = {fact.key: fact.value.string_value for fact in resource.resource.attributes}
    assert path == "/v1/traces"
    assert (about["service.name"], about["deployment.environment.name"]) == ("outbound", "test")
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["round"]
