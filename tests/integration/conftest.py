"""Fixtures for all integration tests: the laboratory, and the recorder of a fault test's result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.fault_report import Report, recorder
from tests.integration.lab import Lab, laboratory


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Run a gateway, an sshd and a k3s API."""
    with laboratory(tmp_path) as running:
        yield running


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Record what happened for the fault table."""
    return recorder(record_property)
