"""A whole site for tests: a gateway's host, and machines behind NAT that reach nothing but its sshd."""
