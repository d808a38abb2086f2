"""Starting, restarting and stopping the throw-away sshd, in this process and as its own."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from agent.core.provisioning.authorized_keys import Grant
from agent.core.tunnel.addresses import candidates
from agent.demo.sshd.program import find_sshd
from agent.errors import SettingsError, TransientError
from tests.integration.agent_process import is_running
from tests.integration.ssh_client import (
    DEADLINE_S,
    Ssh,
    as_root,
    greeting_from,
    listener,
    recorded,
    refusal,
    reverse_forward,
    wait_until,
)
from tests.sshd import Sshd


def answers(address: str, greeting: bytes) -> bool:
    return greeting_from(address, 6443) == greeting


def test_many_machines_at_once() -> None:
    ids = [secrets.token_hex(4) for _ in range(50)]
    with Sshd(grant=Grant(tuple(ids))) as server, listener(b"k3s") as port:
        addresses = [candidates(machine_id)[0] for machine_id in ids]
        clients = [Ssh(server, *reverse_forward(address, port)) for address in addresses]
        try:
            # Fifty logins take ten seconds of CPU time, so each has its own deadline.
            for each in addresses:
                wait_until(partial(answers, each, b"k3s"), f"{each} to answer")
            assert len(server.sessions()) == 50
        finally:
            for client in clients:
                client.end()


@as_root
def test_a_session_is_told_by_its_clients_port_and_by_what_it_listens_on(
    server: Sshd, machine_id: str
) -> None:
    address = candidates(machine_id)[0]
    with Ssh(server) as plain, Ssh(server, *reverse_forward(address, 9)) as with_listener:
        wait_until(lambda: greeting_from(address, 6443) is not None, "the reverse session")
        wait_until(lambda: server.log().count("Starting session") == 2, "both sessions")
        listening = {session.client_port: session.listens for session in server.sessions()}
        assert listening[client_port(with_listener)] == {f"{address}:6443"}
        assert listening[client_port(plain)] == frozenset()


def client_port(client: Ssh) -> int:
    """Return the local port of the client's connection."""
    connections = psutil.Process(client.process.pid).net_connections("tcp4")
    return next(entry.laddr.port for entry in connections if entry.status == psutil.CONN_ESTABLISHED)


def test_a_restart_can_keep_the_sessions_or_end_them(server: Sshd) -> None:
    with Ssh(server) as client:
        wait_until(lambda: "Starting session" in server.log(), "the session")
        before = server.session_pids()
        server.restart(keep_sessions=True)
        assert client.running()
        assert set(server.session_pids()) == set(before)
        server.restart()
        assert client.process.wait(DEADLINE_S) == 255
        cases = ("connection closed in mid-session", "connection reset in mid-session")
        assert client.stderr() in {recorded(case) for case in cases}
        assert not any(map(is_running, before))
    with Ssh(server):
        wait_until(lambda: server.log().count("Starting session") == 2, "a session after the restart")


def test_nothing_is_left_after_the_end_not_even_a_frozen_or_kept_session(machine_id: str) -> None:
    with Sshd(grant=Grant((machine_id,))) as server:
        with Ssh(server) as kept:
            wait_until(lambda: "Starting session" in server.log(), "the first session")
            server.restart(keep_sessions=True)
            with Ssh(server) as frozen:
                wait_until(lambda: server.log().count("Starting session") == 2, "the second session")
                server.signal_sessions(signal.SIGSTOP)
                pids = (server.listener_pid, *server.session_pids())
                server.stop()
                assert not any(map(is_running, pids))
                assert kept.process.wait(DEADLINE_S) == 255
                assert frozen.process.wait(DEADLINE_S) == 255
        assert not server.directory.exists()
        assert server.sessions() == ()
        with pytest.raises(TransientError, match="not running"):
            _ = server.listener_pid


def test_options_can_be_changed_while_it_runs(server: Sshd) -> None:
    with Ssh(server) as before:
        wait_until(lambda: "Starting session" in server.log(), "the session")
        server.reconfigure({"maxsessions": "0"})
        assert refusal(server) == recorded("sessions not allowed (MaxSessions 0)")
        assert before.running()


def test_an_option_that_sshd_does_not_know_is_named_and_nothing_is_left() -> None:
    server = Sshd(options={"NoSuchOption": "1"})
    with pytest.raises(SettingsError, match="NoSuchOption"), server:
        pass
    assert not server.directory.exists()


def test_a_port_that_is_taken_is_named() -> None:
    with (
        listener(b"") as port,
        pytest.raises(TransientError, match=rf"127\.0\.0\.1:{port}.*Address already in use"),
        Sshd(port=port),
    ):
        pass


def test_a_machine_without_sshd_is_told_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.demo.sshd.program.shutil.which", lambda *_, **__: None)
    with pytest.raises(SettingsError, match="install the package openssh-server"):
        find_sshd()


@pytest.fixture
def as_a_process(tmp_path: Path, machine_id: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    ready = tmp_path / "ready.json"
    command = [
        sys.executable,
        "-m",
        "agent.demo.sshd",
        "--dir",
        str(tmp_path / "sshd"),
        "--ready-file",
        str(ready),
    ]
    process = subprocess.Popen([*command, "--machine-id", machine_id, "--target", "127.0.0.1:1994"])
    try:
        wait_until(ready.exists, "the ready file")
        yield process, json.loads(ready.read_text())
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_as_a_process_it_ends_with_its_listener(
    as_a_process: tuple[subprocess.Popen[bytes], dict[str, str]], number: signal.Signals
) -> None:
    process, facts = as_a_process
    assert Path(facts["key"]).exists()
    assert Path(facts["known_hosts"]).read_text().startswith(f"[127.0.0.1]:{facts['port']} ssh-ed25519 ")
    assert is_running(int(facts["pid"]))
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == (-number if number == signal.SIGKILL else 0)
    wait_until(lambda: not is_running(int(facts["pid"])), "sshd to end")
