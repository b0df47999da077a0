"""The Inbox: list of conversations and one conversation."""
