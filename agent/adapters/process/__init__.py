"""Child processes: run a command, or keep a child."""
