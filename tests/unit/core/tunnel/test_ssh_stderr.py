"""What OpenSSH's own words mean to us: every recorded case, and what a person is told to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.tunnel import ssh_stderr
from agent.core.tunnel.faults import DENIED, FaultKind

CASES = json.loads((Path(__file__).parents[2] / "data" / "ssh_stderr.json").read_text(encoding="utf-8"))
RECORDED = {case["case"]: case["stderr"].splitlines() for case in CASES}

ENDINGS = {
    "connection refused": FaultKind.REFUSED,
    "no banner (TCP accepts, says nothing)": FaultKind.UNREACHABLE,
    "closed before the banner": FaultKind.LOST,
    "reset before the banner": FaultKind.LOST,
    "not an ssh server (HTTP)": FaultKind.LOST,
    "dns: no such name": FaultKind.DNS,
    "dns: no resolver reachable": FaultKind.DNS,
    "network unreachable": FaultKind.UNREACHABLE,
    "no route to host": FaultKind.UNREACHABLE,
    "connect timed out": FaultKind.UNREACHABLE,
    "host key unknown": FaultKind.HOST_KEY,
    "host key differs": FaultKind.HOST_KEY,
    "host key revoked": FaultKind.HOST_KEY,
    "known_hosts file missing": FaultKind.HOST_KEY,
    "key not accepted": FaultKind.AUTH,
    "user unknown": FaultKind.AUTH,
    "identity file missing": FaultKind.KEY_FILE,
    "key without its final newline": FaultKind.KEY_FILE,
    "key file readable by others": FaultKind.KEY_FILE,
    "key with CRLF line ends": FaultKind.KEY_FILE,
    "key file holds no key": FaultKind.KEY_FILE,
    "key file empty": FaultKind.KEY_FILE,
    "key file holds the public key": FaultKind.KEY_FILE,
    "key file unreadable": FaultKind.KEY_FILE,
    # ssh does not say that a passphrase is missing: BatchMode skips the key in silence.
    "key encrypted, not in authorized_keys": FaultKind.AUTH,
    "key encrypted": FaultKind.AUTH,
    "no passwd entry for the uid": FaultKind.NO_SSH,
    "remote bind not in permitlisten": FaultKind.BIND,
    "remote bind taken": FaultKind.BIND,
    "remote bind taken, ExitOnForwardFailure=no": FaultKind.BIND,
    "AllowTcpForwarding no: -R": FaultKind.BIND,
    "local port taken": FaultKind.LOCAL_PORT,
    "local unix socket taken": FaultKind.LOCAL_PORT,
    "local unix socket in a missing directory": FaultKind.LOCAL_PORT,
    "local privileged port as ordinary user": FaultKind.LOCAL_PORT,
    "local address not of this host": FaultKind.LOCAL_PORT,
    "subsystem unknown to the server": FaultKind.SESSION,
    "subsystem not configured": FaultKind.SESSION,
    "sessions not allowed (MaxSessions 0)": FaultKind.SESSION,
    "server stopped (server-alive timeout)": FaultKind.LOST,
    "session killed on the server (KILL)": FaultKind.LOST,
    "session terminated on the server (TERM)": FaultKind.LOST,
    "connection reset in mid-session": FaultKind.LOST,
    "connection closed in mid-session": FaultKind.LOST,
    "ssh itself terminated": FaultKind.EXITED,
    "ssh itself killed": FaultKind.EXITED,
    "forced command ends at once": FaultKind.EXITED,
    "no common host key algorithm": FaultKind.AUTH,
    "no common key exchange": FaultKind.AUTH,
    "bad option": FaultKind.NO_SSH,
    "bad -L": FaultKind.NO_SSH,
    "bad port": FaultKind.NO_SSH,
    "user not allowed": FaultKind.AUTH,
    "root not permitted": FaultKind.AUTH,
    "MaxAuthTries exceeded": FaultKind.AUTH,
    "key not accepted, sshd offers passwords, too": FaultKind.AUTH,
    "only passwords": FaultKind.AUTH,
    "MaxStartups reached": FaultKind.LOST,
}
"""What ended the child."""

COMPLAINTS = {
    "permitopen refuses the target": FaultKind.PERMIT_OPEN,
    "AllowTcpForwarding no: -L": FaultKind.PERMIT_OPEN,
    "target refused on the far side": FaultKind.TARGET,
    "target's name unknown on the far side": FaultKind.TARGET,
    "target silent on the far side": FaultKind.TARGET,
}
"""What a living child says."""

SAYS_NOTHING = {
    # k3s on this machine is probed directly; what ssh says of it comes later and tells less.
    "k3s refused on the near side of -R",
    # Found by the end-to-end probe: nothing is printed at all.
    "GatewayPorts no: -R silently bound to 127.0.0.1",
}


def test_every_recorded_case_is_expected_to_mean_something() -> None:
    assert set(RECORDED) == set(ENDINGS) | set(COMPLAINTS) | SAYS_NOTHING


@pytest.mark.parametrize("case", ENDINGS)
def test_a_recorded_ending_is_told_for_what_it_is(case: str) -> None:
    fault = ssh_stderr.fault_at_exit(RECORDED[case], 255)
    assert fault.kind is ENDINGS[case], fault.message


@pytest.mark.parametrize("case", COMPLAINTS)
def test_a_recorded_complaint_is_told_for_what_it_is(case: str) -> None:
    told = [ssh_stderr.complaint(line) for line in RECORDED[case]]
    assert [fault.kind for fault in told if fault] == [COMPLAINTS[case]]


@pytest.mark.parametrize("case", sorted(SAYS_NOTHING))
def test_what_a_probe_finds_better_is_no_complaint(case: str) -> None:
    assert [line for line in RECORDED[case] if ssh_stderr.complaint(line)] == []


@pytest.mark.parametrize("case", [case for case, kind in ENDINGS.items() if kind is not FaultKind.EXITED])
def test_a_person_is_told_what_ssh_said_and_what_to_do(case: str) -> None:
    text = ssh_stderr.fault_at_exit(RECORDED[case], 255).message
    assert text.startswith("ssh: ")
    assert any(line.strip()[:60] in text for line in RECORDED[case])
    assert text.endswith(")")


@pytest.mark.parametrize("case", [case for case, kind in ENDINGS.items() if kind in DENIED])
def test_whatever_sshd_punishes_repeating_names_the_setting_or_the_command_that_helps(case: str) -> None:
    text = ssh_stderr.fault_at_exit(RECORDED[case], 255).message
    assert "BETA9_" in text or "algorithm" in text


@pytest.mark.parametrize("case", ENDINGS)
def test_what_verbose_says_at_the_end_of_every_connection_changes_nothing(case: str) -> None:
    chatter = [
        'Authenticated to 127.0.0.1 ([127.0.0.1]:2222) using "publickey".',
        "Transferred: sent 2644, received 2756 bytes, in 0.1 seconds",
        "Bytes per second: sent 26440.1, received 27560.2",
    ]
    assert ssh_stderr.fault_at_exit([*RECORDED[case], *chatter], 255).kind is ENDINGS[case]


def test_only_the_line_that_openssh_prints_counts_as_logged_in() -> None:
    assert ssh_stderr.logged_in('Authenticated to gateway ([192.0.2.1]:22) using "publickey".')
    assert not ssh_stderr.logged_in("The server says: Authenticated to nobody")


@pytest.mark.parametrize(
    ("lines", "kind", "says"),
    [
        (
            ["ssh: connect to host jump port 22: Connection refused"],
            FaultKind.REFUSED,
            "check BETA9_SSH_JUMP",
        ),
        (
            ["ssh: connect to host jump2 port 22: Connection refused"],
            FaultKind.REFUSED,
            "check BETA9_SSH_HOST",
        ),
        (["me@jump: Permission denied (publickey)."], FaultKind.AUTH, "the user in BETA9_SSH_JUMP"),
        (["me@gw.jump: Permission denied (publickey)."], FaultKind.AUTH, "check BETA9_SSH_USER"),
        (
            ["No ED25519 host key is known for [jump]:2222 and you …", "Host key verification failed."],
            FaultKind.HOST_KEY,
            "a jump host's key",
        ),
        (
            ["beta9-host-key pinned jump ssh-ed25519 SHA256:x", "Host key verification failed."],
            FaultKind.HOST_KEY,
            "the gateway's host key",
        ),
        (
            ["channel 0: open failed: administratively prohibited: open failed", "stdio forwarding failed"],
            FaultKind.PERMIT_OPEN,
            "does not let this key go on",
        ),
        (
            ["channel 0: open failed: connect failed: Connection refused", "stdio forwarding failed"],
            FaultKind.UNREACHABLE,
            "cannot reach the next one",
        ),
    ],
)
def test_a_fault_at_a_jump_host_is_told_from_one_at_the_gateway_s(
    lines: list[str], kind: FaultKind, says: str
) -> None:
    end = [
        "kex_exchange_identification: Connection closed by remote host",
        "Connection closed by UNKNOWN port 65535",
    ]
    fault = ssh_stderr.fault_at_exit([*lines, *end], 255, ["jump"])
    assert (fault.kind, says in fault.message) == (kind, True)


def test_without_a_word_the_exit_code_or_the_signal_is_all_there_is_to_tell() -> None:
    assert "exit code 255" in ssh_stderr.fault_at_exit([], 255).message
    assert "signal 9" in ssh_stderr.fault_at_exit([], -9).message


def test_a_server_cannot_paint_on_the_terminal_of_whoever_reads_the_log() -> None:
    text = ssh_stderr.fault_at_exit(["Connection closed by \x1b[31mremote\x07 host" + "x" * 999], 255).message
    assert "\x1b" not in text
    assert "\x07" not in text
    assert len(text) < 400


@given(st.lists(st.text(max_size=80), max_size=20), st.none() | st.integers(-64, 255))
def test_no_words_whatsoever_are_an_exception(lines: list[str], code: int | None) -> None:
    fault = ssh_stderr.fault_at_exit(lines, code)
    assert fault.kind in FaultKind
    assert "\n" not in fault.message
    assert all(ssh_stderr.complaint(line) is None or line for line in lines)
