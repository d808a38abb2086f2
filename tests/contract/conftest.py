"""A running embedded gateway for each test, and a client with a machine token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.gateway.options import GatewaySettings
from tests.contract.caller import Caller


@pytest.fixture
def gateway() -> Iterator[EmbeddedGateway]:
    with EmbeddedGateway() as running:
        yield running


@pytest.fixture
def tailnet_gateway() -> Iterator[EmbeddedGateway]:
    """A gateway without directRedisHost; its pause on register is shortened from 5 s."""
    settings = GatewaySettings(
        direct_redis_host="",
        tailscale_host_name="tail.example",
        tailscale_user="beta9",
        register_pause_s=0.3,
    )
    with EmbeddedGateway(settings) as running:
        yield running


@pytest.fixture
def caller(gateway: EmbeddedGateway) -> Caller:
    return Caller(gateway.port, gateway.new_token())
