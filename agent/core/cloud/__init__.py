"""The cloud that the machine belongs to: interruption notices and lifecycle hooks."""
