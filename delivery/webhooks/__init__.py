"""Outgoing webhooks: their dispatcher and HTTP requests that cannot reach private addresses."""
