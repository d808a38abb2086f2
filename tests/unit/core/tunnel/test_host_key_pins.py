"""Which host keys ssh is told to accept, and what is concluded from those that it was shown.

With a real sshd: tests/integration/ssh/test_host_keys.py.
"""

from __future__ import annotations

import shlex
import subprocess

import pytest

from agent.core.tunnel.host_key_pins import (
    ShownKey,
    has_no_other_type,
    lookup_name,
    options,
    unproven,
    with_shown,
)

PINNED, OTHER = "SHA256:" + "p" * 43, "SHA256:" + "o" * 43
ED25519 = ShownKey("gw.example", "ssh-ed25519", OTHER)
RSA = ShownKey("gw.example", "ssh-rsa", OTHER)
JUMP = ShownKey("[jump.example]:2222", "ssh-ed25519", OTHER)


def asked(why: str, fingerprint: str) -> subprocess.CompletedProcess[str]:
    """Run the KnownHostsCommand as ssh does: split into words, which are then expanded, without a shell."""
    words = shlex.split(options((PINNED, "SHA256:" + "q" * 43))["KnownHostsCommand"])
    values = {"%I": why, "%H": "gw.example", "%t": "ssh-ed25519", "%f": fingerprint, "%K": "AAAA"}
    argv = [values.get(word, word) for word in words]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)


def test_a_pinned_key_is_repeated_and_another_only_reported() -> None:
    assert asked("HOSTNAME", PINNED).stdout == "gw.example ssh-ed25519 AAAA\n"
    refused = asked("HOSTNAME", OTHER)
    assert refused.stdout == ""
    assert with_shown((), refused.stderr.splitlines()) == (ED25519,)
    # Before it has connected, ssh asks which types of keys it should prefer.
    assert (asked("ORDER", "NONE").stdout, asked("ORDER", "NONE").stderr) == ("", "")


@pytest.mark.parametrize("part", [PINNED[:-1], PINNED[7:], "SHA256:", "", "*", ","])
def test_a_part_of_a_fingerprint_is_none(part: str) -> None:
    assert asked("HOSTNAME", part).stdout == ""


def test_ssh_reads_the_options_as_they_were_meant() -> None:
    words = [word for name, value in options((PINNED,), (RSA,)).items() for word in ("-o", f"{name}={value}")]
    done = subprocess.run(
        ["ssh", "-G", "-F", "none", *words, "gw.example"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert shlex.split(told["knownhostscommand"])[:2] == ["/bin/sh", "-c"]
    assert "ssh-ed25519" in told["hostkeyalgorithms"]
    assert "rsa" not in told["hostkeyalgorithms"]
    assert "cert" not in told["hostkeyalgorithms"]


def test_a_key_is_remembered_once_and_a_server_is_blamed_only_for_its_own() -> None:
    lines = [
        "beta9-host-key other gw.example ssh-ed25519 " + OTHER,
        "beta9-host-key pinned [jump.example]:2222 ecdsa-sha2-nistp256 " + PINNED,
        "beta9-host-key other gw.example",
    ]
    assert with_shown((ED25519,), lines) == (ED25519,)
    assert with_shown((), lines) == (ED25519,)
    assert unproven((JUMP, ED25519), lines) == (ED25519,)


def test_a_server_without_another_type_is_recognised() -> None:
    assert has_no_other_type(
        ["Unable to negotiate with 192.0.2.1 port 22: no matching host key type found. Their offer: ssh-rsa"]
    )
    assert not has_no_other_type(["Host key verification failed."])


def test_a_port_is_part_of_the_name_unless_it_is_ssh_s_own() -> None:
    assert [lookup_name("gw", 22), lookup_name("gw", 2222)] == ["gw", "[gw]:2222"]
