"""The Outbound list over HTTP."""
