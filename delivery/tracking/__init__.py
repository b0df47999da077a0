"""Tracking: opens, clicks and unsubscribes, by people and by bots."""
