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
    why = missing()
    if why is not None:
        pytest.skip(why)
    with ExitStack() as stack:
        made = stack.enter_context(wire())
        # The gateway resolves machines' names as its host does; here a hosts file stands for MagicDNS.
        stack.enter_context(names(made.far.name, f"near.{TAILNET}", "near.beta9.tailnet.example"))
        # A short path: unix sockets' may have 107 characters.
        yield stack.enter_context(mesh(tmp_path_factory.mktemp("tn"), made))


@contextmanager
def names(namespace: str, *hosts: str) -> Iterator[None]:
    """Processes started in the namespace meanwhile have their own /etc/hosts (ip-netns(8)). The far node is first."""
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
    """The gateway listens on the far node's every address, k3s on the near one's."""
    options = ("--host", "0.0.0.0", *lab_options.get("gateway_options", ()))
    with laboratory(
        tmp_path,
        near=tailnet.wire.near,
        far=tailnet.wire.far,
        gateway_options=options,
        kubernetes_options=("--host", "0.0.0.0", "--port", KUBERNETES_PORT),
    ) as made:
        yield made
