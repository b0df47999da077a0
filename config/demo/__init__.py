"""`make demo`: one company's worth of everything, on this machine alone."""
