"""tailscaled, Tailscale's daemon on this machine."""
