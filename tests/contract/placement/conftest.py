"""A site whose placement, cleanup and health checks run every few milliseconds instead of 1, 60 and 10 s."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.gateway.machines import Pool
from agent.demo.gateway.options import GatewaySettings
from tests.contract.caller import Caller
from tests.contract.placement.placement_site import Site, free_port


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        lines: list[tuple[str, dict[str, Any]]] = []
        port, ahead_s = free_port(), [0.0]
        settings = GatewaySettings(
            pools=(Pool(runtime="nvidia"), Pool("cpu-only", gpu_type="", worker_gpu_count=0)),
            k3s_port=port,
            demand=100,
            placement_interval_s=0.02,
            cleanup_interval_s=0.02,
            health_interval_s=0.02,
            clock=lambda: time.monotonic() + ahead_s[0],
        )
        gateway = EmbeddedGateway(settings, lambda text, fields: lines.append((text, dict(fields))))
        stack.enter_context(gateway)
        yield Site(gateway, port, stack, lines, clock_ahead_s=ahead_s)


@pytest.fixture
def one(site: Site) -> Caller:
    return site.machine("aaaaaaaa")
