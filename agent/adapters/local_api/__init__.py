"""The agent's local interfaces: its control socket, and the client of its status server."""
