"""Telemetry: metrics for Prometheus and traces for OpenTelemetry, each only if it is configured."""
