"""A new machine for each test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.shell.install.fakehost import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    if os.geteuid() != 0:
        pytest.skip("the installer requires root, even if its root is a directory")
    return Host(tmp_path)
