"""Traces of requests: one span each, named for the route. Paths and query strings may identify a customer."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from delivery.telemetry import tracing

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class RequestHeaders(Getter[HttpRequest]):
    """Reads the headers of a request for the library."""

    def get(self, carrier: HttpRequest, key: str) -> list[str] | None:
        value = carrier.headers.get(key)
        return None if value is None else [value]

    def keys(self, carrier: HttpRequest) -> list[str]:
        return list(carrier.headers)


class RequestTraces:
    """The first middleware, if traces are exported. Only a proxy's trace is continued, like its other headers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        method = f"{request.method}" if request.method in METHODS else "_OTHER"
        context = None
        if settings.BEHIND_PROXY:
            context = TraceContextTextMapPropagator().extract(request, getter=RequestHeaders())
        started = tracing.open_span(
            method, context=context, attributes={"http.request.method": method}, kind=SpanKind.SERVER
        )
        with started:
            response = self.get_response(request)
            inner, match = started.inner, request.resolver_match
            assert inner is not None  # noqa: S101 - just started
            if match is not None:
                inner.update_name(f"{method} {match.route}")
                inner.set_attribute("http.route", match.route)
            inner.set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= 500:
                started.fail(f"{response.status_code}")
            return response
