"""Inbound: emails and provider events that come back (replies, bounces, complaints)."""
