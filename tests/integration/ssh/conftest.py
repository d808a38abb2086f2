"""A throw-away sshd whose key is authorized for one machine."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from agent.core.provisioning.authorized_keys import Grant
from tests.sshd import Sshd


@pytest.fixture
def machine_id() -> str:
    """A random id: its addresses are real loopback addresses, which other tests must not share."""
    return secrets.token_hex(4)


@pytest.fixture
def server(machine_id: str) -> Iterator[Sshd]:
    with Sshd(grant=Grant((machine_id,))) as running:
        yield running
