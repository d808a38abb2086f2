"""This machine's place in its tailnet."""
