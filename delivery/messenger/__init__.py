"""What a website loads: the messenger script, its sessions and the allowed origins."""
