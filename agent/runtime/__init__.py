"""The running agent: the wiring, the loop, and the threads around it."""
