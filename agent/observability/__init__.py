"""Everything for people and monitoring systems: redacted logs, metrics, the status endpoint."""
