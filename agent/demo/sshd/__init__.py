"""A throw-away OpenSSH server on loopback."""
