"""What a person or a monitoring system sees: logs with redaction, metrics, the status endpoint."""
