"""Child processes: run a command to its end, or keep a child running."""
