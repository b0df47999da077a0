"""Eligibility: who may receive a message now, and the explanation for one customer."""
