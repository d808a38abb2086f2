"""One tailnet for the whole run; each test has its own gateway, k3s API and agent in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lab import Lab, laboratory
from tests.integration.netns import wire
from tests.tailnet.mesh import TAILNET, Mesh, mesh, missing

KUBERNETES_PORT = "6443"


@pytest.fixture(scope="session")
def tailnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with ExitStack() as stack:
        made = stack.enter_context(wire())
        # The gateway resolves machines' names through its host; here a hosts file replaces MagicDNS.
        stack.enter_context(names(made.far.name, f"near.{TAILNET}", "near.beta9.tailnet.example"))
        # A short path, since those of Unix sockets are limited to 107 characters.
        yield stack.enter_context(mesh(tmp_path_factory.mktemp("tn"), made))


@contextmanager
def names(namespace: str, *hosts: str) -> Iterator[None]:
    """Give processes in the namespace their own /etc/hosts, see ip-netns(8). `hosts` are the near node's names."""
    directory = Path("/etc/netns") / namespace
    had_root = directory.parent.exists()
    directory.mkdir(parents=True)
    file = directory / "hosts"
    file.write_text(f"127.0.0.1 localhost\n100.64.0.2 {' '.join(hosts)}\n")
    try:
        yield
    finally:
        file.unlink()
        directory.rmdir()
        if not had_root and not any(directory.parent.iterdir()):
            directory.parent.rmdir()


@pytest.fixture
def lab_options() -> dict[str, Any]:
    return {}


@pytest.fixture
def lab(tmp_path: Path, tailnet: Mesh, lab_options: dict[str, Any]) -> Iterator[Lab]:
    """A lab whose gateway listens on all addresses of the far node, and k3s on all of the near node."""
    options = ("--host", "0.0.0.0", *lab_options.get("gateway_options", ()))
    with laboratory(
        tmp_path,
        near=tailnet.wire.near,
        far=tailnet.wire.far,
        gateway_options=options,
        kubernetes_options=("--host", "0.0.0.0", "--port", KUBERNETES_PORT),
    ) as made:
        yield made
