"""A new machine for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.boot.boot_machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "root").mkdir()
    return Machine(tmp_path / "root", tmp_path / "bin")
