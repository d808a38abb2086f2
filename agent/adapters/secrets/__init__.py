"""Secrets: resolving references and keeping what was resolved."""
