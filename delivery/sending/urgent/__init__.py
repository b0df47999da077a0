"""Emails that are sent one by one, ahead of all campaigns: answers and confirmations."""
