"""Makes the hairpin on this machine, checks and repairs it."""
