"""This machine: CPUs, memory, disk, Docker, and the bootstrap's record."""
