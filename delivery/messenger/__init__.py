"""The messenger on websites: its script, browser sessions and allowed origins."""
