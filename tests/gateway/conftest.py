"""Fixtures: a gateway's host whose relay runs, and the recorder of a fault test's result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gateway.relay_lab import Site, site, use_nft
from tests.integration.fault_report import Report, recorder


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Record what happened for the fault table."""
    return recorder(record_property)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Site]:
    """Set up a gateway's host and start its relay, with the packet filter that it chooses."""
    with site(tmp_path) as made:
        made.relay.start()
        yield made


@pytest.fixture(params=["iptables", "nft"])
def either_lab(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The same with each of the packet filters."""
    with site(tmp_path, "--packet-filter", "iptables") as made:
        if request.param == "nft":
            use_nft(made)
        made.relay.start()
        yield made
