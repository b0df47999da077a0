"""The standard variables of OpenTelemetry that decide whether traces are exported. Its SDK reads the others."""

import os

from config.environment.extras import require_package
from config.environment.urls import read_public_url
from config.environment.variables import read_choice, read_flag

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def read_tracing() -> bool:
    """Return whether spans are exported: an endpoint is set, and neither the SDK nor the exporter is switched off."""
    is_disabled = bool(os.environ.get("OTEL_SDK_DISABLED")) and read_flag("OTEL_SDK_DISABLED", default=False)
    exporter = "otlp"
    if os.environ.get("OTEL_TRACES_EXPORTER"):
        exporter = read_choice("OTEL_TRACES_EXPORTER", ("otlp", "none"), default="otlp")
    endpoint = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None or is_disabled or exporter == "none":
        return False
    read_public_url(endpoint, default="")
    for name in PROTOCOLS:
        if os.environ.get(name):
            read_choice(name, ("http/protobuf",), default="http/protobuf")
    require_package(
        endpoint,
        module="opentelemetry.exporter.otlp.proto.http",
        package="opentelemetry-exporter-otlp-proto-http",
        lock="requirements-extras.lock",
    )
    return True
