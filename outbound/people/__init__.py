"""People: customers, their profiles, segments, attributes, import and export."""
