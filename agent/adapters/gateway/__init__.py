"""The gateway: its machine API over HTTP, and probes of the path to it."""
