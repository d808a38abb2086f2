"""An embedded gateway: the machine API on loopback, with leases, placement and faults."""
