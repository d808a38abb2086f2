"""A stand-in for the gateway's worker: containers with networks of their own, and the port that the gateway dials."""
