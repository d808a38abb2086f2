"""Any port of a worker over SSH: hairpins, relays and gateways in network namespaces. They need root."""
