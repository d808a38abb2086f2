"""The firewall rules in a real kernel: one network namespace is the worker, another one the outside."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lab import wait_for
from tests.shell.install.fakehost import BOOTSTRAP, Host

LISTEN = """
import socket, sys, threading
for port in (6443, 10250, 30500, 8080):
    listener = socket.create_server(("0.0.0.0", port))
    threading.Thread(target=lambda s=listener: [s.accept() for _ in iter(int, 1)], daemon=True).start()
print("listening", flush=True)
sys.stdin.read()
"""
DIAL = """
import socket, sys
with socket.socket() as dial:
    dial.settimeout(1.5)
    dial.bind((sys.argv[1], 0))
    dial.connect((sys.argv[2], int(sys.argv[3])))
"""
WORKER, OUTSIDE, FRIEND = "192.0.2.1", "192.0.2.2", "192.0.2.3"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def names() -> Iterator[tuple[str, str]]:
    if (
        os.geteuid() != 0
        or not shutil.which("ip")
        or not shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
    ):
        pytest.skip("needs root, iproute2 and nftables")
    worker, outside = f"b9w{os.getpid()}", f"b9o{os.getpid()}"
    try:
        ip("netns", "add", worker)
        ip("netns", "add", outside)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be created here: {error.stderr!r}")
    try:
        ip("-n", worker, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", outside)
        for space, addresses in ((worker, [WORKER]), (outside, [OUTSIDE, FRIEND])):
            for address in addresses:
                ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")
        yield worker, outside
    finally:
        ip("netns", "delete", worker)
        ip("netns", "delete", outside)


def rules(host: Host) -> Path:
    """Run the step; return the file of rules that it writes."""
    steps = host.directory / "real"
    steps.mkdir()
    text = (BOOTSTRAP / "steps/42-firewall.sh").read_text()
    (steps / "42-firewall.sh").write_text(text.replace("# needs: tools", "# needs:"))
    done = host.install("--steps", str(steps))
    assert done.returncode == 0, done.stderr
    return host.root / "etc/beta9-worker/firewall.nft"


def test_kubernetes_ports_are_closed_to_the_outside_and_nothing_else_is(
    host: Host, names: tuple[str, str]
) -> None:
    worker, outside = names
    host.write_settings(BETA9_K3S_ALLOW_FROM=f"{FRIEND}/32,2001:db8::/64")
    inside = ["ip", "netns", "exec", worker]
    file = rules(host)
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
    assert nft is not None

    def reaches(source: str, target: str, port: int) -> bool:
        space = worker if source.startswith("127.") else outside
        argv = ["ip", "netns", "exec", space, "python3", "-c", DIAL, source, target, str(port)]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    with subprocess.Popen(
        [*inside, "python3", "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as listeners:
        assert listeners.stdout is not None
        assert listeners.stdout.readline() == b"listening\n"
        wait_for("the network link", lambda: reaches(OUTSIDE, WORKER, 6443))
        for _ in range(2):  # the rules can be loaded twice
            subprocess.run([*inside, nft, "--file", str(file)], check=True)
        for port in (6443, 10250, 30500):
            assert not reaches(OUTSIDE, WORKER, port), f"{port} is open"
            assert reaches("127.0.0.1", "127.0.0.1", port), f"{port} is closed on loopback"
        assert reaches(OUTSIDE, WORKER, 8080)
        assert reaches(FRIEND, WORKER, 6443)
        assert not reaches(FRIEND, WORKER, 10250)
        subprocess.run([*inside, nft, "delete", "table", "inet", "beta9_worker"], check=True)
        assert reaches(OUTSIDE, WORKER, 6443)
        assert listeners.stdin is not None
        listeners.stdin.close()
