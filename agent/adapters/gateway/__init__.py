"""The gateway: its machine API over HTTP, and probes of the way to it."""
