"""An embedded gateway, a throwaway sshd and a stand-in k3s API, to try the agent without a cluster."""
