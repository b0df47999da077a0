"""Edits that are not saved yet: autosaves, other teammates in the same form, and conflicts with their versions."""
