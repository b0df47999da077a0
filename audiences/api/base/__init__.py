"""What every endpoint of the REST API shares: parsing, errors, paging, lookups, authentication and OpenAPI helpers."""
