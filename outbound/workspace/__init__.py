"""Workspace settings: staff, senders, tags, schedule, throttle, webhooks, sign-in and audit log."""
