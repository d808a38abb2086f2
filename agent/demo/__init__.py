"""An embedded gateway and a throw-away sshd, so that the agent can be tried without a cluster."""
