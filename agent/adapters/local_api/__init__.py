"""The agent's own local interfaces: the control socket, and the client of its status page."""
