"""Matching: turns rules into delivery records, for launches, hourly rounds and direct messages."""
