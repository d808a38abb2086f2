"""BETA9_CONNECTION=tailscale, with a real headscale and a real tailscaled."""
