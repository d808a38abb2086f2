"""tailscaled on this machine."""
