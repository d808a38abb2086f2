"""A machine to push secrets to, and the files with the secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.commands.push_secrets.pushing import ORDINARY, TOKEN
from tests.sshd import Sshd


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Sshd]:
    """A machine whose sshd accepts its user's key."""
    with Sshd(tmp_path / "sshd", options=ORDINARY) as running:
        running.authorize(running.public_key())
        yield running


@pytest.fixture
def files(tmp_path: Path, machine: Sshd) -> dict[str, Path]:
    """Token and key in files, as a person has them."""
    token = tmp_path / "my token"
    token.write_text(f"{TOKEN}\n")
    return {"token": token, "ssh_key": machine.make_key("tunnel_key")}
