"""Spans of the engine in memory, by the library's own exporter."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from delivery.telemetry import tracing


@contextmanager
def recorded_spans(settings) -> Iterator[InMemorySpanExporter]:
    """Export spans to memory in the block."""
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    settings.TRACING = True
    settings.MIDDLEWARE = ["delivery.telemetry.request_traces.RequestTraces", *settings.MIDDLEWARE]
    with patch.object(tracing, "tracer_provider", lambda: provider):
        yield memory
    provider.shutdown()


def spans_named(memory: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in memory.get_finished_spans() if span.name == name]
