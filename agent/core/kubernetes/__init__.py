"""This machine's own Kubernetes: health, objects, and what the gateway may do there."""
