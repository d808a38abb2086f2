"""An embedded gateway: the machine API on loopback, with leases, faults and placement."""
