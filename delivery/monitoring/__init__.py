"""Monitoring: alarms, health checks and invariants."""
