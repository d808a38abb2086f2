"""The laboratory as a fixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lab import Lab, laboratory


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A gateway, an sshd and a k3s API, running."""
    with laboratory(tmp_path) as made:
        yield made
