"""All tests, by what they need: nothing (unit), a stand-in gateway (contract), real programs, containers, a machine."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The repository's root directory."""
