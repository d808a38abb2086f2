"""Tests of agent/core/hairpin."""
