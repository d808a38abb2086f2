"""The OpenSSH children: when they run, what their output means, and where their forwards point."""
