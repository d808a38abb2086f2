"""The hairpin: the way from ssh to every port of this machine, containers' ports among them.

A container's port exists only as a DNAT rule in PREROUTING, which a connection that starts on the machine itself, as
every one of ssh's does, never passes. So ssh connects to an address in a network namespace that sends each connection
back to the machine, where it arrives from outside: PREROUTING, then a service or a container.

    ssh ──► 198.18.0.2 (namespace: DNAT, masquerade) ──► 198.18.0.1 ──► PREROUTING ──► port

A service on the machine's loopback only is not reached, and ssh is held to this one address (`PermitRemoteOpen`).
"""
