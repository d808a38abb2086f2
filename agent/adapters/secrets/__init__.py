"""Secrets: resolving references, and the credentials that the agent uses."""
