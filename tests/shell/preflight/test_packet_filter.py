"""Packet filters that would block pods are found by real packets, before there are pods."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.integration.lab import wait_for
from tests.shell.install.fakehost import BOOTSTRAP, Host
from tests.shell.preflight.machine_network import FINE, ORDINARY, Machine, preflight, program

REJECT_THE_REST = """
iptables -A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT; iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -p tcp --dport 22 -j ACCEPT; iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited
"""
NFT = """nft -f - <<'EOT'
table inet filter { chain input { type filter hook input priority 0; policy drop
  ct state established accept
  iif lo accept
  %s
  tcp dport 22 accept
}
}
EOT"""
LET_PODS_IN = """
iptables -P INPUT DROP; iptables -A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -s 10.42.0.0/16 -j ACCEPT; iptables -A INPUT -s 10.43.0.0/16 -j ACCEPT
"""
INPUT, LOOPBACK, OUTPUT, FORWARD = (
    "what pods send to it",
    "connections to itself",
    "what it sends to pods",
    "through it",
)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("true", None),
        (REJECT_THE_REST, INPUT),
        (REJECT_THE_REST.replace("icmp-host-prohibited", "tcp-reset -p tcp"), INPUT),
        (NFT % "", INPUT),
        ("iptables -P INPUT DROP", INPUT),
        ("iptables -P INPUT DROP; iptables -A INPUT -s 10.42.0.0/16 -j ACCEPT", LOOPBACK),
        ("iptables-legacy -P INPUT DROP", INPUT),
        ("iptables -t raw -A PREROUTING -s 10.0.0.0/8 -j DROP", INPUT),
        ("iptables -A INPUT -i cni0 -p tcp --dport 10250 -j DROP", INPUT),
        (
            "nft -f - <<< 'table ip early { chain c { type filter hook prerouting priority -300; policy drop\n }\n}'",
            INPUT,
        ),
        (
            "nft -f - <<< 'table bridge l2 { chain c { type filter hook input priority 0; policy drop\n }\n}'",
            INPUT,
        ),
        (
            "iptables -P OUTPUT DROP; iptables -A OUTPUT -o lo -j ACCEPT; iptables -A OUTPUT -o eth0 -j ACCEPT",
            OUTPUT,
        ),
        ("iptables -A FORWARD -j REJECT --reject-with icmp-host-prohibited", FORWARD),
        (
            "nft -f - <<< 'table inet f { chain c { type filter hook forward priority 0; policy drop\n }\n}'",
            FORWARD,
        ),
        ("iptables -P FORWARD DROP", None),
        ("iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER", None),
        (LET_PODS_IN, None),
        (f"{LET_PODS_IN} iptables -P FORWARD DROP; iptables -P OUTPUT ACCEPT", None),
        (NFT % "ip saddr { 10.42.0.0/16, 10.43.0.0/16 } accept", None),
        (NFT % 'iifname "cni0" accept', None),
    ],
)
def test_a_packet_filter_that_would_block_pods_is_found(
    machine: Machine, rules: str, said: str | None
) -> None:
    """Field case 6.3: each was tried with a real connection by cni0; k3s would wait for pods that cannot start."""
    for line in ORDINARY:
        machine.ip(line)
    machine.bash(rules)
    (machine.host.bin / "nft").unlink()
    look = "ip -4 -oneline address; ip -oneline link; ip route; nft --stateless list ruleset"
    before = machine.bash(look)
    code, text = preflight(machine.host, *machine.within)
    assert code == (1 if said else 0), text
    assert (said or FINE) in text
    assert "not tried" not in text
    assert machine.bash(look) == before, "something was left behind"


def test_the_networks_that_a_filter_lets_in_are_those_that_k3s_gets(machine: Machine) -> None:
    """Field cases 6.2 and 6.3 together."""
    for line in (*ORDINARY, "addr add 10.42.0.15/24 dev eth0"):
        machine.ip(line)
    machine.bash(LET_PODS_IN)
    code, text = preflight(machine.host, *machine.within)
    assert code == 1
    assert "let 10.142.0.0/16 and 10.143.0.0/16 in" in text
    machine.bash("iptables -A INPUT -s 10.142.0.0/16 -j ACCEPT; iptables -A INPUT -s 10.143.0.0/16 -j ACCEPT")
    code, text = preflight(machine.host, *machine.within)
    assert code == 0, text


def test_a_trial_that_is_stopped_leaves_nothing_behind(machine: Machine) -> None:
    """Field case 6.3: the preflight has a deadline."""
    machine.bash("iptables -P INPUT DROP")
    argv = [*machine.within, "python3", str(BOOTSTRAP / "lib/pod_traffic.py"), "10.42.0.0/16"]
    with subprocess.Popen(argv) as trial:
        wait_for("the bridge", lambda: "cni0" in machine.bash("ip -oneline link"))
        trial.send_signal(signal.SIGTERM)
        assert trial.wait(60) == 2
    assert "b9-preflight" not in machine.bash("ip -oneline link")
    assert "cni0" not in machine.bash("ip -oneline link")


@pytest.mark.parametrize(("zone", "code"), [("public", 1), ("", 1), ("trusted", 0)])
def test_firewalld_must_trust_pods(host: Host, zone: str, code: int) -> None:
    """Field case 6.3."""
    (host.state / "systemctl").mkdir()
    (host.state / "systemctl/firewalld.active").touch()
    program(host, "firewall-cmd", f"[[ $1 == --get-zone-of-source=10.4[23].0.0/16 ]] && echo {zone}")
    got, said = preflight(host)
    assert got == code
    assert ("firewall-cmd --permanent --zone=trusted --add-source=10.42.0.0/16" in said) is (code == 1)
