"""The agent's life: the displayed state, shutdown, the drain, and how the process ends."""
