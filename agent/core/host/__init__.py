"""The machine itself: facts, GPUs, and how its first boot went."""
