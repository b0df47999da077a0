"""Eligibility: whether a customer may receive a message now, and the explanation for one customer."""
