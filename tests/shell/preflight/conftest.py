"""A new machine for each test, with or without a network of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.shell.install.conftest import host
from tests.shell.install.fakehost import Host
from tests.shell.preflight.machine_network import Machine

__all__ = ["host"]


@pytest.fixture
def machine(host: Host) -> Iterator[Machine]:
    if not shutil.which("ip"):
        pytest.skip("needs iproute2")
    (host.bin / "ip").unlink()
    (host.root / "etc/resolv.conf").write_text("nameserver 192.0.2.53\n")
    space = f"b9k{os.getpid()}"
    subprocess.run(["ip", "netns", "add", space], check=True, capture_output=True)
    try:
        machine = Machine(host, space)
        for line in (
            "link set lo up",
            "link add eth0 type veth peer name far",
            "link set eth0 up",
            "link set far up",
        ):
            machine.ip(line)
        yield machine
    finally:
        subprocess.run(["ip", "netns", "delete", space], check=True, capture_output=True)
