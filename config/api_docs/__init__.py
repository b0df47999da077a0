"""Texts and examples of the OpenAPI document, by operation: "POST /users"."""
