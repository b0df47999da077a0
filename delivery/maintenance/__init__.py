"""Maintenance: the minute sweep, retention and changes of an attribute kind."""
