"""Maintenance: the minute sweep, retention, and attributes that change kind or are retired."""
