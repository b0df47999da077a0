"""Base of the REST API: parsing, errors, paging, lookups, authentication and OpenAPI helpers."""
