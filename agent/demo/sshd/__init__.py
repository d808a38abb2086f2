"""A throwaway OpenSSH server on loopback."""
