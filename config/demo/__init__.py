"""`make demo`: a company with sample data, on this machine only."""
