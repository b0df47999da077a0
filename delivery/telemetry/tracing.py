"""Traces: OpenTelemetry spans of requests, rounds, batches and copies, only with the extra `tracing` and its variables.

Attributes are numbers, keys of rows and fixed words. Addresses, names, texts and messages of exceptions, which may
quote them, never leave this process.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Self

from django.conf import settings

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as LibrarySpan
    from opentelemetry.trace import SpanKind

NAMESPACE = "outbound."


@dataclass(slots=True, eq=False)
class Span:
    """One step of the work of this process; without traces it does nothing.

    In a `with` block it is the current span of the thread. An exception marks it as failed, by the name of its class.
    """

    inner: "LibrarySpan | None" = None
    token: "Token[Context] | None" = None

    def __enter__(self) -> Self:
        if self.inner is not None:
            from opentelemetry import context, trace

            self.token = context.attach(trace.set_span_in_context(self.inner))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _where: TracebackType | None
    ) -> None:
        if self.token is not None:
            from opentelemetry import context

            if kind is not None:
                self.fail(kind.__name__)
            self.end()
            context.detach(self.token)

    def set(self, **attributes: int | str) -> None:
        """Set attributes of ours."""
        if self.inner is not None:
            self.inner.set_attributes({NAMESPACE + name: value for name, value in attributes.items()})

    def fail(self, error: str) -> None:
        """Mark the step as failed. `error` is the name of a class or another fixed word."""
        if self.inner is not None:
            from opentelemetry.trace import StatusCode

            self.inner.set_attribute("error.type", error)
            self.inner.set_status(StatusCode.ERROR)

    def end(self) -> None:
        """End the step; a second end does nothing."""
        if self.inner is not None and self.inner.is_recording():
            self.inner.end()


NO_SPAN = Span()


@cache
def tracer_provider() -> "TracerProvider":
    """Return the provider of this process, which reads the OTEL_* variables and exports in a thread."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        # Neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES names it.
        resource = resource.merge(Resource({"service.name": "outbound"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def start_span(name: str, *, parent: Span | None = None, **attributes: int | str) -> Span:
    """Start a span, below `parent` or else the current span of this thread. The caller ends it, or uses `with`."""
    if not settings.TRACING:
        return NO_SPAN
    from opentelemetry import trace

    context = None if parent is None or parent.inner is None else trace.set_span_in_context(parent.inner)
    return open_span(name, context=context, attributes={NAMESPACE + key: value for key, value in attributes.items()})


def open_span(
    name: str, *, context: "Context | None", attributes: Mapping[str, int | str], kind: "SpanKind | None" = None
) -> Span:
    from opentelemetry.trace import SpanKind

    tracer = tracer_provider().get_tracer("outbound")
    return Span(tracer.start_span(name, context=context, kind=kind or SpanKind.INTERNAL, attributes=dict(attributes)))


def close() -> None:
    """Export the spans that are left, when this process stops."""
    if settings.TRACING and tracer_provider.cache_info().currsize:
        tracer_provider().shutdown()
        tracer_provider.cache_clear()
