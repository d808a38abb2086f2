"""Fixtures of the gateway's host: the recorder of a fault test's result."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.fault_report import Report, recorder


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Record what happened for the fault table."""
    return recorder(record_property)
