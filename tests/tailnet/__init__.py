"""With a real headscale and a real tailscaled: BETA9_CONNECTION=tailscale."""
