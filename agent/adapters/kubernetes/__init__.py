"""This machine's Kubernetes API."""
