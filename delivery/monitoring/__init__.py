"""Monitoring: alarms, health checks and checks of invariants."""
