"""Decisions only: no I/O, no clock, no logging, no randomness. Imports the standard library and agent.errors."""
