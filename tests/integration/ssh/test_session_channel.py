"""What a key may do with a session channel of the throw-away sshd: keep it open, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

from agent.core.provisioning.authorized_keys import Grant
from agent.core.tunnel.addresses import candidates
from tests.integration.ssh_client import (
    DEADLINE_S,
    Ssh,
    greeting_from,
    listener,
    recorded,
    refusal,
    reverse_forward,
    wait_until,
)
from tests.sshd import Sshd


def test_a_session_channel_stays_open_while_its_input_is(server: Sshd) -> None:
    with Ssh(server) as client:
        wait_until(lambda: "Starting session: forced-command (config)" in server.log(), "the session")
        assert client.running()
        assert client.process.stdin
        client.process.stdin.close()
        assert client.process.wait(DEADLINE_S) == 0
        assert client.stderr() == ""


def test_no_command_and_no_file_can_be_had_through_the_session(server: Sshd) -> None:
    secret = server.directory / "secret"
    secret.write_text("secret")
    batch = server.directory / "batch"
    batch.write_text(f"-get {secret} {secret}.copy\n-put {secret} {secret}.new\n-ls {server.directory}\n")
    command = ["sftp", "-F", "none", "-b", str(batch), "-i", str(server.key_path), "-P", str(server.port)]
    command += ["-o", f"UserKnownHostsFile={server.known_hosts_path}", f"{server.user}@{server.host}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert f'File "{secret}" not found' in result.stderr, "sftp did not log in to an empty directory"
    assert f'dest open "{secret}.new": Permission denied' in result.stderr
    assert not Path(f"{secret}.copy").exists()
    assert not Path(f"{secret}.new").exists()
    touched = server.directory / "touched"
    with Ssh(server, command=["touch", str(touched)]) as client:
        wait_until(lambda: "forced-command (config) 'internal-sftp" in server.log(), "the forced command")
        assert client.process.stdin
        client.process.stdin.close()
        client.process.wait(DEADLINE_S)
    assert not touched.exists()


def test_no_terminal_is_given(server: Sshd) -> None:
    with Ssh(server, "-tt", command=["true"]) as client:
        wait_until(lambda: "PTY allocation request failed" in client.stderr(), "the refusal")


def test_where_sessions_are_refused_forwards_alone_still_work(machine_id: str) -> None:
    with Sshd(grant=Grant((machine_id,)), options={"MaxSessions": "0"}) as server:
        assert refusal(server) == recorded("sessions not allowed (MaxSessions 0)")
        address = candidates(machine_id)[0]
        with listener(b"k3s") as port, Ssh(server, *reverse_forward(address, port), session=False):
            wait_until(lambda: greeting_from(address, 6443) == b"k3s", "the address to answer")


def test_without_the_subsystem_ssh_says_so(machine_id: str) -> None:
    with Sshd(grant=Grant((machine_id,)), options={"Subsystem": None, "ForceCommand": None}) as server:
        assert refusal(server) == recorded("subsystem not configured")
