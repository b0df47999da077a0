"""Sending: drains the outbox of delivery records (claim, send, settle)."""
