"""A visit of a customer: the full path (`visit`), the fast path and its SQL statement."""
