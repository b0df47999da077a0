"""The endpoints that the messenger on a website calls."""
