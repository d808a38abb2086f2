"""check.py and pool-key.nft on port 6443: a listener in the way, and what a pool's key may reach."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.integration.gateway_host.check_program import GATEWAY, Host, check, verdict
from tests.integration.gateway_host.setup_site import Site
from tests.integration.ssh_client import DEADLINE_S, as_root

_TAKE_PORT = """
import socket, subprocess, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], 6443), family=family, dualstack_ipv6=family == socket.AF_INET6):
    raise SystemExit(subprocess.run(sys.argv[2:]).returncode)
"""


@as_root
@pytest.mark.parametrize(
    ("address", "expected"), [("0.0.0.0", "failed"), ("::", "failed"), ("127.0.0.1", "ok")]
)
def test_a_wildcard_listener_on_6443_is_named_with_its_process(
    host: Host, address: str, expected: str
) -> None:
    """In a separate network namespace, so that the host's own listeners do not matter."""
    namespace = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    take_port = (sys.executable, "-c", _TAKE_PORT, address)
    _, findings = check(*host.configure({}), prefix=(*namespace, *take_port))
    assert verdict(findings, "port-6443") == expected
    if expected == "failed":
        assert "python" in findings["port-6443"]["seen"]
        assert "pid" in findings["port-6443"]["seen"]


_POOL_KEY = """
import socket, sys
from pathlib import Path
from agent.core.tunnel.addresses import candidates
from agent.core.provisioning.authorized_keys import Grant
from agent.demo.sshd.throwaway import ThrowAwaySshd
from tests.integration.ssh_client import Ssh, greeting_from, listener, wait_until
address, user = candidates("1165a9b6")[0], sys.argv[1]
forwards = [part for port, host in (("18801", "127.0.0.1"), ("18802", address), ("18803", "[::1]"))
            for part in ("-L", f"127.0.0.1:{port}:{host}:6443")]
with (listener(b"k3s") as k3s, ThrowAwaySshd(user=user, grant=Grant()) as server,
      socket.create_server(("127.0.0.1", 6443)),
      Ssh(server, "-R", f"{address}:6443:127.0.0.1:{k3s}", *forwards) as client):
    wait_until(lambda: greeting_from("127.0.0.1", 18802) == b"k3s", "the machine's k3s")
    assert greeting_from("127.0.0.1", 18801) == b"", "the host's k3s is reachable"
    assert client.stderr().count("connect failed: Connection refused") == 1
    assert greeting_from("127.0.0.1", 18803) == b""
"""


@as_root
def test_the_firewall_file_holds_a_pools_key_to_the_workers_addresses(site: Site) -> None:
    """In a separate network namespace, with a k3s of the host on 127.0.0.1:6443 and the shipped rules."""
    assert site.setup().returncode == 0
    rules = site.directory / "pool-key.nft"
    rules.write_text((GATEWAY / "pool-key.nft").read_text().replace('"beta9-tunnel"', f'"{site.user}"'))
    script = f'ip link set lo up && nft -f {rules} && nft -f {rules} && exec "$@"'
    command = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-c", _POOL_KEY, site.user]
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S * 2, check=False)
    assert result.returncode == 0, result.stderr
