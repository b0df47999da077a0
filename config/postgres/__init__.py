"""The embedded PostgreSQL for machines without a database server."""
