"""Messages: the Outbound list, reports, delivery records and versions."""
