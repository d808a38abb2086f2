"""The gateway's machine API: calls, replies, and what this machine offers."""
