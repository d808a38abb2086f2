"""What the gateway does with workers once they run: it hands them containers, dials and probes them, serves pods."""
