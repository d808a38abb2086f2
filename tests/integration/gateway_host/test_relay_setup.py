"""setup.sh --relay: what it installs, how that runs, what check.py says of it, and that nothing of it stays.

In a network namespace of the test's own, with a /run/systemd and an /etc/systemd/system of its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from agent.core.tunnel.addresses import candidates
from tests.integration.gateway_host.check_program import GATEWAY, MACHINE_ID, verdict
from tests.integration.gateway_host.relay_host import RelayHost
from tests.integration.netns import FAR_ADDRESS, NEAR_ADDRESS, WIRE, resolver
from tests.integration.ssh_client import DEADLINE_S, as_root, wait_until

pytestmark = as_root

DOMAIN = "beta9.tailnet.example"
MACHINE_ADDRESS = candidates(MACHINE_ID)[0]
STRANGER = "10.231.0.77"
CAP_NET_ADMIN = 1 << 12
"""linux/capability.h"""


def read_status(pid: int, field: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith(f"{field}:"))


def test_the_relay_runs_from_the_releases_tree_with_one_capability_and_goes_without_trace(
    relay_host: RelayHost,
) -> None:
    """Needs nothing but the system's Python: no package, no network."""
    result = relay_host.setup("--relay", "--names", DOMAIN)
    assert result.returncode == 0, result.stderr
    assert f"{relay_host.program}/start" in result.stdout
    again = relay_host.setup("--relay")
    assert (again.returncode, len(again.stdout.splitlines())) == (0, 2), (
        "where to start it, and how to check it"
    )
    with relay_host.running() as pid:
        entry = pwd.getpwnam(relay_host.user)
        assert Path(f"/proc/{pid}").stat().st_uid == entry.pw_uid
        for field in ("CapEff", "CapPrm", "CapBnd"):
            assert int(read_status(pid, field), 16) == CAP_NET_ADMIN
        assert read_status(pid, "NoNewPrivs") == "1"
        findings = relay_host.check()
        names = ("relay", "relay-rules", "relay-dial", "names")
        assert {name: verdict(findings, name) for name in names} == dict.fromkeys(names, "ok"), findings
        result = relay_host.setup("--relay", "--remove")
        assert result.returncode == 0, result.stderr
    assert relay_host.left_behind() == []
    assert relay_host.site.drop_in.exists(), "the tunnel's user stays"
    again = relay_host.setup("--relay", "--remove")
    assert (again.returncode, again.stdout) == (0, "")


def test_the_check_names_a_relay_that_is_gone_and_rules_that_are(relay_host: RelayHost) -> None:
    """With a k3s of the host's own on all addresses, which answers for workers once the rules are gone."""
    assert relay_host.setup("--relay").returncode == 0
    with relay_host.place.inside(), socket.create_server(("0.0.0.0", 6443)):
        with relay_host.running():
            findings = relay_host.check()
            assert verdict(findings, "relay-dial") == "ok"
            assert verdict(findings, "port-6443") == "skipped", "no worker on any port needs it"
        findings = relay_host.check()
        assert [verdict(findings, name) for name in ("relay", "relay-rules", "relay-dial")] == [
            "failed", "ok", "ok",
        ], "refused without a relay, and not answered by the host's k3s"  # fmt: skip
        for table in ("raw", "mangle", "filter"):
            relay_host.place.run("iptables", "-t", table, "-F")
        relay_host.place.run("nft", "flush", "ruleset")
        findings = relay_host.check()
        assert [verdict(findings, name) for name in ("relay", "relay-rules", "relay-dial")] == ["failed"] * 3
        assert "another server of this host" in findings["relay-dial"]["seen"]


def test_the_check_says_whether_this_hosts_resolver_asks_the_relay(relay_host: RelayHost) -> None:
    with ExitStack() as stack:
        relay_host.place.run("sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0")
        assert (
            relay_host.setup("--relay", "--names", DOMAIN, "--names-address", "127.0.0.1:53").returncode == 0
        )
        stack.enter_context(relay_host.running())
        with resolver(relay_host.place, "127.0.0.1"):
            findings = relay_host.check()
            assert verdict(findings, "names-resolver") == "ok", findings
        with resolver(relay_host.place, "127.0.0.9"):
            findings = relay_host.check()
            assert (verdict(findings, "names"), verdict(findings, "names-resolver")) == ("ok", "failed")


def test_a_dry_run_says_everything_and_changes_nothing(relay_host: RelayHost) -> None:
    relay_host.with_systemd()
    result = relay_host.setup("--relay", "--names", DOMAIN, "--tcp-retries2", "8", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert relay_host.left_behind() == []
    for change in (f"add the user {relay_host.user}", "install the program", "write", "enable", "restart"):
        assert f"would {change}" in result.stdout


def test_options_are_kept_by_later_runs_until_they_are_ended(relay_host: RelayHost) -> None:
    pods = ("--pods-dial", "100.64.0.0/10", "--pods-from", "10.42.0.0/16")
    for arguments, options in [
        (("--names", DOMAIN), f"--names {DOMAIN}"),
        (pods, f"--names {DOMAIN} {' '.join(pods)}"),
        ((), f"--names {DOMAIN} {' '.join(pods)}"),
        (("--names", "other.example"), f"--names other.example {' '.join(pods)}"),
        (("--pods-dial", "none", "--pods-from", "none"), "--names other.example"),
        (("--names", "none"), ""),
    ]:
        result = relay_host.setup("--relay", *arguments)
        assert result.returncode == 0, result.stderr
        assert relay_host.options.read_text() == f'RELAY_OPTIONS="{options}"\n'


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--names", "example"), "--names"),
        (("--names", "$(id).example"), "is not a name"),
        (("--names", "a.example --port 1"), "is not a name"),
        (("--names-for-pods", "10.0.0.1:53"), "--names-for-pods"),
        (("--pods-dial", "100.64.0.0/10"), "--pods-from"),
        (("--pods-dial", "100.64.0.0/12", "--pods-from", "10.42.0.0/16"), "/10"),
        (("--names-address", "localhost:53", "--names", DOMAIN), "--names-address"),
        (("--tcp-retries2", "1"), "--tcp-retries2"),
        (("--relay-user", "daemon"), "was not created by this script"),
    ],
)
def test_options_that_cannot_work_are_named_before_anything_is_changed(
    relay_host: RelayHost, arguments: tuple[str, ...], named: str
) -> None:
    result = relay_host.setup("--relay", *arguments)
    assert (result.returncode, named in result.stderr) == (1, True), result.stderr
    assert relay_host.left_behind() == []
    assert not relay_host.site.drop_in.exists()


def test_relay_options_without_a_relay_are_refused(relay_host: RelayHost) -> None:
    result = relay_host.setup("--names", DOMAIN)
    assert (result.returncode, "requires --relay" in result.stderr) == (1, True)


def test_the_folder_alone_is_not_enough_and_says_so(relay_host: RelayHost) -> None:
    folder = shutil.copytree(GATEWAY, relay_host.directory / "gateway")
    result = relay_host.setup("--relay", script=folder / "setup.sh")
    assert (result.returncode, "whole release" in result.stderr) == (1, True)
    assert relay_host.left_behind() == []


def test_systemd_runs_it_and_restarts_it_only_for_a_change(relay_host: RelayHost) -> None:
    relay_host.with_systemd()
    assert relay_host.setup("--relay", "--names", DOMAIN).returncode == 0
    assert relay_host.calls("restart") == 1
    unit = relay_host.units / f"{relay_host.user}.service"
    if shutil.which("systemd-analyze"):
        verified = subprocess.run(
            ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
        )
        assert (verified.returncode, verified.stderr) == (0, "")
    assert "@" not in unit.read_text().replace("@system-service", "")
    assert relay_host.setup("--relay").returncode == 0
    assert relay_host.calls("restart") == 0, "a restart ends all connections"
    assert relay_host.setup("--relay", "--names", "other.example").returncode == 0
    assert relay_host.calls("restart") == 1
    (relay_host.program / "program.sum").write_text("of an older release\n")
    result = relay_host.setup("--relay")
    assert (result.returncode, relay_host.calls("restart")) == (0, 1)
    (relay_host.states / f"active.{relay_host.user}.service").unlink()
    assert relay_host.setup("--relay").returncode == 0
    assert relay_host.calls("restart") == 1, "it was not running"
    result = relay_host.setup("--relay", "--remove")
    assert result.returncode == 0, result.stderr
    assert [path.name for path in relay_host.states.glob("[ae]*.service")] == []
    assert relay_host.left_behind() == []


def test_the_kernels_retries_are_set_on_request_only_and_put_back(relay_host: RelayHost) -> None:
    key = "net.ipv4.tcp_retries2"

    def current() -> str:
        return relay_host.place.run("sysctl", "-n", key).strip()

    before = current()
    for arguments, value in [
        ((), before), (("--tcp-retries2", "8"), "8"), ((), "8"), (("--tcp-retries2", "6"), "6"),
        (("--tcp-retries2", "default"), before), (("--tcp-retries2", "6"), "6"),
    ]:  # fmt: skip
        assert relay_host.setup("--relay", *arguments).returncode == 0
        assert current() == value
    assert relay_host.setup("--relay", "--remove").returncode == 0
    assert current() == before


def test_remove_takes_the_relay_along(relay_host: RelayHost) -> None:
    assert relay_host.setup("--relay").returncode == 0
    with relay_host.running() as pid:
        result = relay_host.setup("--remove")
        assert result.returncode == 0, result.stderr
        wait_until(lambda: _is_over(pid), "the relay's end")
    assert relay_host.left_behind() == []
    assert not relay_host.site.drop_in.exists()


def _is_over(pid: int) -> bool:
    done, status = os.waitpid(pid, os.WNOHANG)
    return done == pid and os.WTERMSIG(status) == signal.SIGKILL


def test_gateway_pods_reach_a_machine_by_name_and_nobody_else_does(relay_host: RelayHost) -> None:
    """`near` is a pod on this host, `far` the host: the wire between them is the pod's veth pair."""
    host, pods = relay_host.place, ("--pods-dial", "100.64.0.0/10", "--pods-from", f"{NEAR_ADDRESS}/32")
    names = ("--names", DOMAIN, "--names-for-pods", f"{FAR_ADDRESS}:9053")
    result = relay_host.setup("--relay", *pods, *names)
    assert result.returncode == 0, result.stderr
    pod = replace(host, name=host.name.replace("far-", "near-"))
    pod.run("ip", "route", "add", "100.64.0.0/10", "via", FAR_ADDRESS)
    with ExitStack() as stack:
        stack.enter_context(relay_host.running())
        with host.inside():
            machine = stack.enter_context(socket.create_server((MACHINE_ADDRESS, 6443)))
        with pod.inside():
            address = answered(FAR_ADDRESS, f"machine-{MACHINE_ID}.{DOMAIN}")
            assert address == MACHINE_ADDRESS.replace("127.", "100.", 1)
            with socket.create_connection((address, 6443), timeout=DEADLINE_S) as dialled:
                with machine.accept()[0] as accepted:
                    accepted.sendall(b"k3s")
                assert dialled.recv(3) == b"k3s"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, 6444), timeout=DEADLINE_S)
            pod.run("ip", "addr", "add", f"{STRANGER}/24", "dev", WIRE)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, 6443), DEADLINE_S, source_address=(STRANGER, 0))


def answered(server: str, name: str) -> str:
    """Return the address in the answer to a query."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE_S)
        client.connect((server, 9053))
        client.send(struct.pack("!6H", 1, 0, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, 1, 1))
        return socket.inet_ntoa(client.recv(512)[-4:])


def test_the_manifest_for_nodes_has_options_that_the_relay_takes(relay_host: RelayHost) -> None:
    manifest = yaml.safe_load((GATEWAY / "relay-daemonset.yaml").read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    command = [sys.executable, "-m", "agent", *container["args"], "--dry-run"]
    rules = relay_host.place.run(*command)
    assert "100.64.0.0/10" in rules
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
