"""check.py on sshd's configuration and its key file."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.demo.sshd.config import SERVER, TUNNEL, Option
from tests.integration.gateway_host.check_program import DROP_IN, Host, check, verdict
from tests.integration.gateway_host.other_sshds import with_version


def test_the_demo_server_is_restricted_as_the_drop_in_says() -> None:
    options = dict(
        line.strip().split(" ", 1)
        for line in DROP_IN.read_text().splitlines()
        if line.strip() and not line.strip().startswith(("#", "Match"))
    )
    paths = {"AuthorizedKeysFile", "ChrootDirectory"}
    assert {name: value for name, value in options.items() if name not in paths} == {
        **TUNNEL,
        "PubkeyAuthentication": SERVER["PubkeyAuthentication"],
        "MaxStartups": SERVER["MaxStartups"],
        # The demo's clients all come from 127.0.0.1, so it has no penalties.
        "PerSourceMaxStartups": "100",
        "PerSourcePenalties": "min:60 max:90",
    }


def test_a_host_that_is_right_passes(host: Host) -> None:
    code, findings = check(*host.configure({}))
    failed = {name: finding for name, finding in findings.items() if finding["verdict"] == "failed"}
    assert (code, failed) == (0, {})
    assert {verdict(findings, name) for name in ("gateway-ports", "dead-peer", "session", "key-1")} == {"ok"}


@pytest.mark.parametrize(
    ("options", "name", "seen"),
    [
        ({"GatewayPorts": "no"}, "gateway-ports", "GatewayPorts no"),
        ({"GatewayPorts": "yes"}, "gateway-ports", "GatewayPorts yes"),
        ({"GatewayPorts": None}, "gateway-ports", "GatewayPorts no"),
        ({"AllowTcpForwarding": "no"}, "tcp-forwarding", "AllowTcpForwarding no"),
        ({"AllowTcpForwarding": "local"}, "tcp-forwarding", "AllowTcpForwarding local"),
        ({"AllowTcpForwarding": "remote"}, "tcp-forwarding", "AllowTcpForwarding remote"),
        ({"DisableForwarding": "yes"}, "disable-forwarding", "DisableForwarding yes"),
        ({"PermitListen": "127.0.0.1:6443"}, "permit-listen", "PermitListen 127.0.0.1:6443"),
        ({"PermitListen": "none"}, "permit-listen", "PermitListen none"),
        ({"ClientAliveInterval": None}, "dead-peer", "never ended"),
        ({"ClientAliveCountMax": "0"}, "dead-peer", "never ended"),
        ({"ClientAliveInterval": "30"}, "dead-peer", "ClientAliveInterval 30"),
        ({"PubkeyAuthentication": "no", "AuthenticationMethods": None}, "pubkey", "PubkeyAuthentication no"),
        ({"AuthenticationMethods": "publickey,password"}, "methods", "publickey,password"),
        ({"AllowUsers": "somebody else"}, "admitted", "AllowUsers somebody else"),
        ({"DenyUsers": "daem*"}, "admitted", "DenyUsers daem*"),
        ({"AllowGroups": "wheel"}, "admitted", "AllowGroups wheel"),
        ({"ChrootDirectory": "/nonexistent"}, "chroot", "/nonexistent: No such file"),
        ({"ChrootDirectory": "/tmp"}, "chroot", "/tmp is writable by users other than root"),
        ({"AuthorizedKeysFile": "/nonexistent"}, "keys", "no key in /nonexistent"),
    ],
)
def test_a_setting_in_the_way_is_named_with_its_value_and_its_fix(
    host: Host, options: dict[str, Option], name: str, seen: str
) -> None:
    code, findings = check(*host.configure(options))
    assert code == 1
    assert verdict(findings, name) == "failed"
    assert seen in findings[name]["seen"]
    assert findings[name]["fix"]
    failed = {each for each in findings if verdict(findings, each) == "failed"}
    assert failed - {name} <= ({"target-names"} if name == "chroot" else set()), "other checks fail, too"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"MaxSessions": "0"}, "session"),
        ({"Subsystem": None}, "session"),
        ({"ForceCommand": "/bin/true"}, "session"),
        ({"MaxStartups": None}, "max-startups"),
        ({"PerSourceMaxStartups": "10"}, "max-startups"),
        ({"PermitListen": None}, "permit-listen"),
        ({"PermitTTY": "yes"}, "restrictions"),
        ({"AllowStreamLocalForwarding": "yes"}, "restrictions"),
    ],
)
def test_what_works_but_could_be_better_is_a_warning(
    host: Host, options: dict[str, Option], name: str
) -> None:
    code, findings = check(*host.configure(options))
    assert (code, verdict(findings, name)) == (0, "warning")
    assert findings[name]["fix"]


def test_a_configuration_that_sshd_refuses_is_shown_in_its_own_words(host: Host) -> None:
    code, findings = check(*host.configure({"NoSuchOption": "1"}))
    assert code == 1
    assert "NoSuchOption" in findings["sshd-config"]["seen"]
    assert verdict(findings, "port-6443") in {"ok", "failed"}, "the other checks did not run"


@pytest.mark.parametrize(
    ("version", "interval", "count", "seen", "expected"),
    [
        ("9.1p1", 3, 2, "after 9 s", "ok"),
        ("9.2p1", 3, 2, "after 18 s", "warning"),
        ("9.2p1", 3, 1, "after 12 s", "ok"),
        ("9.4p1", 5, 2, "after 30 s", "warning"),
        ("9.5p1", 3, 2, "after 9 s", "ok"),
        ("9.9p2", 5, 2, "after 15 s", "warning"),
        ("9.9p2", 15, 3, "after 60 s", "failed"),
        ("10.0p2", 3, 2, "after 9 s", "ok"),
    ],
)
def test_the_time_after_which_a_dead_session_ends_is_the_one_of_this_version(  # noqa: PLR0917 - a table's columns
    host: Host, tmp_path: Path, version: str, interval: int, count: int, seen: str, expected: str
) -> None:
    """Field case A6: one figure. Other versions are a program that prints theirs and is otherwise the real sshd."""
    options: dict[str, Option] = {"ClientAliveInterval": str(interval), "ClientAliveCountMax": str(count)}
    path = with_version(tmp_path / "bin", version)
    _, findings = check(*host.configure(options), prefix=("env", f"PATH={path}"))
    assert verdict(findings, "openssh-version") == "ok"
    assert verdict(findings, "dead-peer") == expected
    assert seen in findings["dead-peer"]["seen"]
    others = [each for name, each in findings.items() if name != "dead-peer"]
    assert [each for each in others if "dead session" in each["seen"]] == []


def test_a_user_who_is_not_there_is_named(host: Host) -> None:
    arguments = host.configure({})
    code, findings = check(*arguments[:2], "--user", "nobody-there")
    assert code == 1
    assert verdict(findings, "account") == "failed"


def test_each_key_line_is_judged(host: Host) -> None:
    key = host.public_key
    lines = (
        key,
        f"restrict {key}",
        f"restrict,port-forwarding {key}",
        f'restrict,port-forwarding,permitopen="localhost:1",permitlisten="127.64.0.1:6443" {key}',
        f'restrict,port-forwarding,permitopen="localhost:31994",permitlisten="0.0.0.0:6443" {key}',
        key_line(key, Grant()),
        "hello",
    )
    code, findings = check(*host.configure({}, *lines), "--target", "localhost:31994")
    verdicts = [verdict(findings, f"key-{number}") for number in range(1, 8)]
    assert code == 1
    assert verdicts == ["warning", "failed", "warning", "failed", "failed", "ok", "failed"]
    assert "localhost:31994" in findings["key-4"]["fix"]
