"""The laboratory as a fixture, and what a fault test says of its row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.lab import Lab, laboratory
from tests.integration.told import Tell, teller


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A gateway, an sshd and a k3s API, running."""
    with laboratory(tmp_path) as made:
        yield made


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Record what happened for the fault table."""
    return teller(record_property)
