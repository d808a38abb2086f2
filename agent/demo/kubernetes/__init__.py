"""A stand-in for a machine's Kubernetes API."""
