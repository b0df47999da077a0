"""REST API of the Outbound list."""
