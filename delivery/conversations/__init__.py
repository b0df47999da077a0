"""Conversations: threads, attachments, JSON payloads and emails that tell customers about answers."""
