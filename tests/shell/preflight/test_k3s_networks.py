"""Networks of pods and services that the machine does not use itself, and its own route to the outside."""

from __future__ import annotations

import pytest

from tests.shell.install.fakehost import BOOTSTRAP, Host
from tests.shell.preflight.machine_network import FINE, ORDINARY, Machine, preflight

CHOOSE = """. "$BETA9_BOOTSTRAP/lib/k3s.sh"
if choose_networks; then echo "$PODS $SERVICES"; else echo "none: $TAKEN"; fi"""
USUAL, SECOND, THIRD, FOURTH = (
    "10.42.0.0/16 10.43.0.0/16",
    "10.142.0.0/16 10.143.0.0/16",
    "10.242.0.0/16 10.243.0.0/16",
    "172.26.0.0/16 172.27.0.0/16",
)


@pytest.mark.parametrize(
    ("lines", "settings", "networks"),
    [
        (ORDINARY, {}, USUAL),
        (["addr add 10.42.0.15/24 dev eth0"], {}, SECOND),
        (["addr add 10.43.7.8/16 dev eth0"], {}, SECOND),
        (["addr add 10.42.255.255/32 dev eth0"], {}, SECOND),
        ([*ORDINARY, "route add 10.43.5.0/24 via 192.0.2.9"], {}, SECOND),
        ([*ORDINARY, "route add 10.42.0.0/16 dev eth0 table 52"], {}, SECOND),
        ([*ORDINARY, "route add blackhole 10.142.0.0/15", "route add 10.43.0.9 dev eth0"], {}, THIRD),
        (["addr add 10.41.0.5/12 dev eth0", "route add default via 10.42.0.1"], {}, SECOND),
        # A route to all of a private range does no harm, and is avoided where that is possible.
        ([*ORDINARY, "route add 10.0.0.0/8 via 192.0.2.9"], {}, FOURTH),
        ([*ORDINARY, "route add 10.0.0.0/8 dev eth0", "route add 172.16.0.0/12 dev eth0"], {}, USUAL),
        ([*ORDINARY, "route add 0.0.0.0/1 dev eth0", "route add 128.0.0.0/1 dev eth0"], {}, USUAL),
        (
            ["addr add 10.42.0.15/8 dev eth0", "route add 172.16.0.0/12 dev eth0"],
            {},
            SECOND,
        ),
        # What k3s itself has made is no reason.
        (
            [*ORDINARY, "link add cni0 type bridge", "link set cni0 up", "addr add 10.42.0.1/24 dev cni0"],
            {},
            USUAL,
        ),
        (ORDINARY, {"BETA9_SSH_HOST": "10.43.0.9"}, SECOND),
        (ORDINARY, {"BETA9_SSH_HOST": "gw", "BETA9_SSH_JUMP": "me@10.43.0.9:22,gw2"}, SECOND),
        (ORDINARY, {"BETA9_K3S_CLUSTER_CIDR": "10.200.0.0/16"}, "10.200.0.0/16 10.43.0.0/16"),
        (ORDINARY, {"BETA9_K3S_CLUSTER_CIDR": "10.43.0.0/16"}, "10.43.0.0/16 10.143.0.0/16"),
        (
            ["addr add 10.200.1.2/24 dev eth0"],
            {"BETA9_K3S_SERVICE_CIDR": "10.200.0.0/16"},
            "none: 10.200.1.0/24",
        ),
        (
            [
                f"addr add {each}/24 dev eth0"
                for each in ("10.42.1.1", "10.143.1.1", "10.242.1.1", "172.27.1.1")
            ],
            {},
            "none: 10.42.1.0/24",
        ),
    ],
)
def test_k3s_gets_networks_that_the_machine_does_not_use(
    machine: Machine, lines: list[str], settings: dict[str, str], networks: str
) -> None:
    """Field case 6.2: with the machine's own address among the pods', nothing reaches anything."""
    for line in lines:
        machine.ip(line)
    machine.host.write_settings(**settings)
    done = machine.host.step(CHOOSE, machine.within)
    assert done.stdout.startswith(networks), done.stdout + done.stderr


def test_a_resolver_among_the_pods_addresses_counts_as_well(machine: Machine) -> None:
    """Field case 6.2."""
    (machine.host.root / "etc/resolv.conf").write_text("search example\nnameserver 10.42.0.2\n")
    machine.host.write_settings()
    assert machine.host.step(CHOOSE, machine.within).stdout == f"{SECOND}\n"


def test_a_machine_in_the_pods_network_becomes_a_worker_with_other_networks(machine: Machine) -> None:
    """Field case 6.2: all of it, twice; and the networks stay when the machine's own address changes."""
    machine.ip("addr add 10.42.0.15/24 dev eth0")
    machine.ip("route add default via 10.42.0.1")
    host = machine.host
    code, said = preflight(host, *machine.within)
    assert code == 0
    assert "k3s gets 10.142.0.0/16 for pods and 10.143.0.0/16 for services" in said
    assert "10.42.0.1 (a router, on eth0)" in said
    for _ in range(2):
        done = host.bash(BOOTSTRAP / "install.sh", "--env-file", str(host.env_file), within=machine.within)
        assert done.returncode == 0, done.stderr
    config = (host.root / "etc/rancher/k3s/config.yaml").read_text()
    assert "cluster-cidr: 10.142.0.0/16\nservice-cidr: 10.143.0.0/16\n" in config
    assert "done, 0 changes" in host.console_text().splitlines()[-1]
    machine.ip("addr flush dev eth0")
    assert host.step(CHOOSE, machine.within).stdout == f"{SECOND}\n"
    machine.ip("addr add 10.142.0.15/24 dev eth0")
    assert "run bootstrap/uninstall.sh first" in host.step(CHOOSE, machine.within).stdout


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"BETA9_K3S_CLUSTER_CIDR": "10.200.0.0"}, "BETA9_K3S_CLUSTER_CIDR is not an IPv4 network"),
        ({"BETA9_K3S_SERVICE_CIDR": "10.300.0.0/16"}, "BETA9_K3S_SERVICE_CIDR is not an IPv4 network"),
        ({"BETA9_K3S_SERVICE_CIDR": "fd00::/108"}, "BETA9_K3S_SERVICE_CIDR is not an IPv4 network"),
        (
            {"BETA9_K3S_CLUSTER_CIDR": "192.0.0.0/16"},
            "overlap this machine's own: 192.0.2.1 (a router, on eth0)",
        ),
    ],
)
def test_networks_that_cannot_work_are_refused(machine: Machine, settings: dict[str, str], said: str) -> None:
    """Field case 6.2."""
    for line in ORDINARY:
        machine.ip(line)
    code, text = preflight(machine.host, *machine.within, **settings)
    assert code == 1
    assert said in text


def test_networks_cannot_be_changed_later(host: Host) -> None:
    """Field case 6.2: k3s would keep its node's old network, and pods would get no answers."""
    assert host.install().returncode == 0
    code, said = preflight(host, BETA9_K3S_CLUSTER_CIDR="10.200.0.0/16")
    assert code == 1
    assert "has 10.42.0.0/16 for pods and 10.43.0.0/16 for services, which cannot be changed" in said


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "no IPv4 address"),
        (["addr add 2001:db8::7/64 dev eth0", "route add default via 2001:db8::1"], "no IPv4 address"),
        (["link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0"], "no IPv4 address"),
        (["addr add 10.231.0.2/24 dev eth0"], "ip route add default dev eth0 metric 1000"),
        (["addr add 10.231.0.2/24 dev eth0", "route add unreachable default"], "no IPv4 default route"),
        (
            ["addr add 10.231.0.2/24 dev eth0", "route add default via 10.231.0.1 table 7"],
            "no IPv4 default route",
        ),
        (["addr add 10.231.0.2/24 dev eth0", "route add default dev eth0 metric 1000"], FINE),
        (ORDINARY, FINE),
    ],
)
def test_k3s_needs_a_default_route(machine: Machine, lines: list[str], said: str) -> None:
    """Field case 6.6: even a route that leads nowhere; k3s takes the node's address from it."""
    for line in lines:
        machine.ip(line)
    code, text = preflight(machine.host, *machine.within)
    assert (code == 0) is (said == FINE), text
    assert said in text
