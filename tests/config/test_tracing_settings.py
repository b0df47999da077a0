"""Traces: standard variables, which need the extra."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.support.fresh_settings import execute_settings, load_settings

WITHOUT_LIBRARY = "import sys; sys.modules['opentelemetry'] = None; "
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.internal:4318"}


def test_endpoint_without_the_library_stops_the_start_with_the_command_to_run():
    refused = load_settings(WITHOUT_LIBRARY, **ENDPOINT)

    assert refused.returncode == 1
    assert "ImproperlyConfigured: OTEL_EXPORTER_OTLP_ENDPOINT is set, but" in refused.stderr
    assert "python -m pip install --require-hashes -r requirements-extras.lock" in refused.stderr
    assert load_settings(WITHOUT_LIBRARY).returncode == 0


def test_only_an_endpoint_switches_traces_on_and_the_standard_variables_switch_them_off():
    middleware = "delivery.telemetry.request_traces.RequestTraces"
    assert execute_settings(**ENDPOINT)["MIDDLEWARE"][0] == middleware
    assert execute_settings(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://[::1]:4318/v1/traces")["TRACING"]
    for off in (
        {"OTEL_TRACES_EXPORTER": "otlp"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ):
        found = execute_settings(**off)
        assert (found["TRACING"], middleware in found["MIDDLEWARE"]) == (False, False), off


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_SDK_DISABLED", "ture"),
    ],
)
def test_wrong_value_stops_the_start_with_the_name(name, given):
    with pytest.raises(ImproperlyConfigured, match=f"^{name} must be .*{given}$"):
        execute_settings(**{**ENDPOINT, name: given})
