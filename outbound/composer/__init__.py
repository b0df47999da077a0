"""The composer: content, audience, and the review before a message is set live."""
