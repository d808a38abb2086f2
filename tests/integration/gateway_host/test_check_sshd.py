"""check.py on sshd's configuration and its key file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.demo.sshd.config import SERVER, TUNNEL, Option
from agent.demo.sshd.program import find_sshd
from tests.integration.gateway_host.check_program import DROP_IN, Host, check, verdict


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
        ({"ClientAliveInterval": "30"}, "dead-peer", "after 90 s"),
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


@pytest.mark.parametrize("slow", [True, False])
def test_versions_that_probe_dead_clients_slowly_are_named(host: Host, tmp_path: Path, slow: bool) -> None:
    """Simulate other OpenSSH versions by a program that prints the version and is otherwise the real sshd."""
    fake = tmp_path / "bin" / "sshd"
    fake.parent.mkdir()
    version = "9.4p1" if slow else "9.6p1"
    fake.write_text(
        f'#!/bin/sh\n[ "$1" != -V ] || {{ echo "OpenSSH_{version}, x" >&2; exit; }}\nexec {find_sshd()} "$@"\n'
    )
    fake.chmod(0o755)
    _, findings = check(*host.configure({}), prefix=("env", f"PATH={fake.parent}:{os.environ['PATH']}"))
    assert verdict(findings, "openssh-version") == ("warning" if slow else "ok")
    assert version in findings["openssh-version"]["seen"]


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
    code, findings = check(*host.configure({}, *lines))
    verdicts = [verdict(findings, f"key-{number}") for number in range(1, 8)]
    assert code == 1
    assert verdicts == ["warning", "failed", "warning", "failed", "failed", "ok", "failed"]
    assert "localhost:31994" in findings["key-4"]["fix"]


def test_a_key_file_that_others_may_write_is_named(host: Host) -> None:
    arguments = host.configure({})
    (host.directory / "keys").chmod(0o666)
    _, findings = check(*arguments)
    assert verdict(findings, "key-file") == "failed"
