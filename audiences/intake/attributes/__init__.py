"""Attribute values on their way in: coercion, the catalogue of custom attributes and changes of their kind."""
