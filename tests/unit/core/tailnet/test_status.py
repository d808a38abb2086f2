"""Reading tailscaled's status: recorded from 1.72.1 in a headscale's tailnet, cut to what is looked at."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from agent.core.host.facts import DaemonState, PeerFacts
from agent.core.tailnet.status import read_status

NOW_S = datetime(2026, 11, 25, 21, 11, 0, tzinfo=timezone.utc).timestamp()
NEVER = "0001-01-01T00:00:00Z"
FAR = {
    "HostName": "far",
    "DNSName": "far.tail.example.",
    "TailscaleIPs": ["fd7a:115c:a1e0::1", "100.64.0.1"],
    "CurAddr": "10.232.0.1:41641",
    "Relay": "local",
    "LastHandshake": "2026-11-25T21:10:30.123456789Z",
    "Online": True,
}
OTHER = {
    "DNSName": "other.tail.example.",
    "TailscaleIPs": ["100.64.0.9"],
    "LastHandshake": NEVER,
    "Online": False,
}
RUNNING: dict[str, Any] = {
    "Version": "1.72.1",
    "TUN": True,
    "BackendState": "Running",
    "TailscaleIPs": ["100.64.0.2"],
    "Self": {"DNSName": "near.tail.example.", "Online": True},
    "Health": ["Tailscale could not connect to any relay server. Check your Internet connection."],
    "CurrentTailnet": {"Name": "tail.example", "MagicDNSSuffix": "tail.example"},
    "Peer": {"nodekey:1": OTHER, "nodekey:2": FAR},
}
REFUSED = 'You are logged out. The last login error was: register request: http 401: {"User":{"ID":0},"Node'


def read(host: str = "far.tail.example", **changes: Any) -> Any:
    return read_status({**RUNNING, **changes}, host, NOW_S)


def test_a_running_daemon_s_name_address_and_tailnet() -> None:
    facts = read()
    assert facts.state is DaemonState.RUNNING
    assert (facts.name, facts.address, facts.tailnet) == ("near.tail.example", "100.64.0.2", "tail.example")
    assert facts.key_expires_in_s is None
    assert facts.text == "", "complaints of one that runs explain nothing"
    assert not facts.userspace
    assert read(TUN=False).userspace


@pytest.mark.parametrize(
    "host", ["far.tail.example", "FAR.tail.example.", "far", "100.64.0.1", "fd7a:115c:a1e0::1"]
)
def test_the_gateway_is_the_peer_of_that_name_or_address(host: str) -> None:
    assert read(host).peer == PeerFacts("far.tail.example", "100.64.0.1", online=True, direct=True)


@pytest.mark.parametrize("host", ["gateway", "far.elsewhere.example", "10.232.0.1", "tail.example"])
def test_no_other_peer_is_taken_for_it(host: str) -> None:
    assert read(host).peer is None


def test_by_a_relay_or_not_yet_at_all() -> None:
    relayed = read(Peer={"1": {**FAR, "CurAddr": ""}}).peer
    assert (relayed.direct, relayed.relay) == (False, "local")
    assert read(Peer={"1": {**FAR, "CurAddr": "", "LastHandshake": NEVER}}).peer.direct is None


def test_a_peer_whose_key_expired() -> None:
    assert read(Peer={"1": {**FAR, "Expired": True}}).peer.key_expired
    assert read(Peer={"1": {**FAR, "KeyExpiry": "2026-11-25T21:10:59Z"}}).peer.key_expired


@pytest.mark.parametrize(
    ("backend", "state"),
    [
        ("NoState", DaemonState.STARTING),
        ("Starting", DaemonState.STARTING),
        ("NeedsLogin", DaemonState.NEEDS_LOGIN),
        ("NeedsMachineAuth", DaemonState.NEEDS_APPROVAL),
        ("Stopped", DaemonState.STOPPED),
    ],
)
def test_each_state_of_the_backend(backend: str, state: DaemonState) -> None:
    assert read(BackendState=backend).state is state


@pytest.mark.parametrize(
    "own",
    [
        {"Expired": True},
        {"KeyExpiry": "2026-11-25T21:10:59.999999999Z"},
        {"KeyExpiry": "2026-11-25T22:10:59+01:00"},
    ],
)
def test_a_login_that_is_needed_because_the_key_expired(own: dict[str, Any]) -> None:
    assert read(BackendState="NeedsLogin", Self=own).state is DaemonState.KEY_EXPIRED


def test_the_time_until_a_key_expires() -> None:
    facts = read(Self={"KeyExpiry": "2026-11-25T22:11:00Z"})
    assert facts.state is DaemonState.RUNNING
    assert facts.key_expires_in_s == pytest.approx(3600)
    assert read(Self={"KeyExpiry": NEVER}).key_expires_in_s is None


def test_a_refused_login_is_told_without_the_server_s_json_however_the_complaints_are_ordered() -> None:
    health = ["Tailscale is starting. Please wait.", REFUSED, *RUNNING["Health"]]
    for order in (health, health[::-1]):
        assert read(BackendState="NeedsLogin", Self={}, Health=order).text == "register request: http 401"
    assert read(BackendState="NeedsLogin", Self={}).text == ""
    assert "any relay server" in read(BackendState="Starting").text


def test_a_refused_login_is_a_missing_login_also_where_the_daemon_calls_it_starting() -> None:
    assert read(BackendState="Starting", Health=[REFUSED]).state is DaemonState.NEEDS_LOGIN
    expired = read(BackendState="Starting", Self={"Expired": True}, Health=[REFUSED])
    assert expired.state is DaemonState.KEY_EXPIRED
    unreached = "You are logged out. The last login error was: fetch control key: connection refused"
    assert read(BackendState="Starting", Health=[unreached]).state is DaemonState.STARTING


@pytest.mark.parametrize(
    "changes",
    [
        {"BackendState": "Dancing"},
        {"Self": "me"},
        {"Peer": ["far"]},
        {"Health": 5},
        {"Self": {"KeyExpiry": "soon"}},
    ],
)
def test_another_shape_is_no_status(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"another shape|Invalid isoformat"):
        read(**changes)
