"""HTTP in JSON: messages and conversations for integrations, the ping for the messenger."""
