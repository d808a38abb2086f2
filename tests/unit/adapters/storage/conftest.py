"""A state directory for each test of storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.adapters.storage.state_dir import StateDir


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """Return an open state directory that did not exist before."""
    return StateDir.open(tmp_path / "deep" / "state")
