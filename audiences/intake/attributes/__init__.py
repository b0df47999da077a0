"""Attributes in incoming data: coercion, the catalogue of custom attributes, changes of an attribute's kind."""
