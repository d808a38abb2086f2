"""A laboratory whose gateway grants short leases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.faults.gateway.short_lease import LEASE_S
from tests.integration.lab import Lab, laboratory


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with laboratory(tmp_path, gateway_options=("--ttl", str(LEASE_S))) as running:
        yield running
