"""This machine: processors, memory, disk, Docker, and the bootstrap's record."""
