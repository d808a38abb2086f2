"""The running agent: wiring, the loop, and the threads around it."""
