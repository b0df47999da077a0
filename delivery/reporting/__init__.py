"""Reporting: counters and the progress of a send."""
