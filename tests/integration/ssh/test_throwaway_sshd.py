"""The throw-away sshd and the key lines it is given: what a worker's key may do, tried with the real client."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.core.tunnel.addresses import candidates
from agent.demo.sshd.program import find_sshd, free_port
from agent.errors import SettingsError, TransientError
from tests.integration.ssh_client import (
    DEADLINE_S,
    Ssh,
    dialled,
    listener,
    recorded,
    refusal,
    wait_until,
)
from tests.sshd import Sshd

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: makes an account, or reads others' sockets"
)


@pytest.fixture
def machine_id() -> str:
    """Made anew: its addresses are real ones, and nobody else's test should stand on them."""
    return secrets.token_hex(4)


@pytest.fixture
def server(machine_id: str) -> Iterator[Sshd]:
    with Sshd(grant=Grant((machine_id,))) as running:
        yield running


def reverse(address: str, port: int) -> tuple[str, str]:
    return "-R", f"{address}:6443:127.0.0.1:{port}"


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- Addresses ---------------------------------------------------------------------------------------------


def test_two_machines_have_their_k3s_on_addresses_of_their_own() -> None:
    ids = [secrets.token_hex(4), secrets.token_hex(4)]
    with Sshd() as server, listener(b"one") as one, listener(b"two") as two:
        keys = [server.make_key(f"key-{machine_id}") for machine_id in ids]
        server.authorize(
            *(key_line(server.public_key(key), Grant((i,))) for key, i in zip(keys, ids, strict=True))
        )
        first, second = (candidates(i)[0] for i in ids)
        with Ssh(server, *reverse(first, one), key=keys[0]), Ssh(server, *reverse(second, two), key=keys[1]):
            wait_until(lambda: dialled(first, 6443) == b"one", "the first machine")
            wait_until(lambda: dialled(second, 6443) == b"two", "the second machine")


def test_the_address_of_another_machine_is_refused(server: Sshd) -> None:
    said = refusal(server, *reverse(candidates(secrets.token_hex(4))[0], 9))
    assert said == recorded("remote bind not in permitlisten")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "*", "0.0.0.0", "", "localhost", "127.128.0.1", "127.63.9.9"]
)
@pytest.mark.parametrize("whose", ["a machine's", "a pool's"])
def test_no_key_listens_outside_the_reserved_block(
    server: Sshd, machine_id: str, whose: str, address: str
) -> None:
    server.authorize(key_line(server.public_key(), Grant(() if whose == "a pool's" else (machine_id,))))
    assert "remote port forwarding failed" in refusal(server, *reverse(address, 9))


@pytest.mark.parametrize("port", [0, 22, 6444])
def test_no_key_listens_on_another_port(server: Sshd, machine_id: str, port: int) -> None:
    said = refusal(server, "-R", f"{candidates(machine_id)[0]}:{port}:127.0.0.1:9")
    assert "remote port forwarding failed" in said


def test_a_pools_key_takes_any_free_address(server: Sshd) -> None:
    server.authorize(key_line(server.public_key(), Grant()))
    address = candidates(secrets.token_hex(4))[2]
    with listener(b"k3s") as port, Ssh(server, *reverse(address, port)):
        wait_until(lambda: dialled(address, 6443) == b"k3s", "the address to answer")


def test_the_server_itself_holds_keys_without_options_to_the_reserved_block(server: Sshd) -> None:
    server.authorize(server.public_key())
    assert "remote port forwarding failed" in refusal(server, *reverse("127.0.0.1", 9))


def test_an_address_that_is_taken_is_refused_and_the_next_one_is_had(server: Sshd, machine_id: str) -> None:
    first, second, *_ = candidates(machine_id)
    with listener(b"k3s") as port, Ssh(server, *reverse(first, port)):
        wait_until(lambda: dialled(first, 6443), "the first address")
        assert refusal(server, *reverse(first, port)) == recorded("remote bind taken")
        with Ssh(server, *reverse(second, port)):
            wait_until(lambda: dialled(second, 6443) == b"k3s", "the second address")


def test_with_gateway_ports_no_the_address_is_silently_replaced_by_localhost(machine_id: str) -> None:
    """The trap that the reverse probe is there for: ssh prints nothing, and believes that all is well."""
    address, free = candidates(machine_id)[0], free_port("127.0.0.1")
    with Sshd(options={"GatewayPorts": "no", "PermitListen": None}) as server:
        server.authorize(f'restrict,port-forwarding,permitlisten="{address}:{free}" {server.public_key()}')
        with listener(b"k3s") as port, Ssh(server, "-R", f"{address}:{free}:127.0.0.1:{port}") as client:
            wait_until(lambda: dialled("127.0.0.1", free) == b"k3s", "the listener on localhost")
            assert dialled(address, free) is None
            assert client.running()
            assert client.stderr() == ""


# --- Targets -----------------------------------------------------------------------------------------------


def test_only_the_target_can_be_reached(server: Sshd, machine_id: str) -> None:
    with listener(b"gateway") as gateway, listener(b"other") as other:
        server.authorize(key_line(server.public_key(), Grant((machine_id,), (f"localhost:{gateway}",))))
        ports = [free_port("127.0.0.1") for _ in range(3)]
        targets = (f"localhost:{gateway}", f"localhost:{other}", f"127.0.0.1:{gateway}")
        forwards = [
            part
            for port, target in zip(ports, targets, strict=True)
            for part in ("-L", f"127.0.0.1:{port}:{target}")
        ]
        with Ssh(server, *forwards) as client:
            wait_until(lambda: dialled("127.0.0.1", ports[0]) == b"gateway", "the target")
            assert dialled("127.0.0.1", ports[1]) == b""
            assert dialled("127.0.0.1", ports[2]) == b"", "sshd compares texts: another spelling is refused"
            refusals = [
                line for line in client.stderr().splitlines() if "administratively prohibited" in line
            ]
            assert len(refusals) == 2
            assert client.running(), "a refused target ends no tunnel"


@pytest.mark.parametrize("whose", ["a machine's", "a pool's"])
def test_the_reverse_path_can_be_probed_from_the_machine(server: Sshd, machine_id: str, whose: str) -> None:
    server.authorize(key_line(server.public_key(), Grant(() if whose == "a pool's" else (machine_id,))))
    address, probe = candidates(machine_id)[3], free_port("127.0.0.1")
    with listener(b"k3s") as port, Ssh(server, *reverse(address, port), "-L", f"{probe}:{address}:6443"):
        wait_until(lambda: dialled("127.0.0.1", probe) == b"k3s", "the way there and back")


def test_permitopen_takes_no_patterns(server: Sshd, machine_id: str) -> None:
    """Why a pool's key has `permitopen="*:6443"`: 127.64.* in permitopen is a host of that very name."""
    address, probe = candidates(machine_id)[0], free_port("127.0.0.1")
    pattern = f"{address.rsplit('.', 2)[0]}.*"
    server.authorize(
        f'restrict,port-forwarding,permitopen="{pattern}:6443",permitlisten="{pattern}:6443" {server.public_key()}'
    )
    with (
        listener(b"k3s") as port,
        Ssh(server, *reverse(address, port), "-L", f"{probe}:{address}:6443") as client,
    ):
        wait_until(lambda: dialled(address, 6443) == b"k3s", "the address, which the pattern admits")
        assert dialled("127.0.0.1", probe) == b""
        assert "administratively prohibited" in client.stderr()


def test_unix_sockets_are_forwarded_neither_way(server: Sshd) -> None:
    here, there = server.directory / "here", server.directory / "there"
    assert "remote port forwarding failed" in refusal(server, "-R", f"{there}:127.0.0.1:9")
    with Ssh(server, "-L", f"{here}:{there}") as client:
        wait_until(here.exists, "the local socket")
        subprocess.run([sys.executable, "-c", _DIAL_UNIX, str(here)], check=True, timeout=DEADLINE_S)
        assert "open failed" in client.stderr()


_DIAL_UNIX = "import socket,sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"


# --- The session channel -----------------------------------------------------------------------------------


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
    assert f'File "{secret}" not found' in result.stderr, "sftp was let in, and sees nothing"
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
        with listener(b"k3s") as port, Ssh(server, *reverse(address, port), session=False):
            wait_until(lambda: dialled(address, 6443) == b"k3s", "the address to answer")


def test_without_the_subsystem_ssh_says_so(machine_id: str) -> None:
    with Sshd(grant=Grant((machine_id,)), options={"Subsystem": None, "ForceCommand": None}) as server:
        assert refusal(server) == recorded("subsystem not configured")


# --- Keys --------------------------------------------------------------------------------------------------


def test_a_revoked_key_is_refused_at_the_next_login_and_its_session_goes_on(
    server: Sshd, machine_id: str
) -> None:
    with Ssh(server) as client:
        wait_until(lambda: "Starting session" in server.log(), "the session")
        server.authorize()
        said = refusal(server).replace(server.user, "root")
        assert said == recorded("key not accepted")
        assert client.running()
    server.authorize(key_line(server.public_key(), Grant((machine_id,))))
    with Ssh(server):
        wait_until(lambda: server.log().count("Starting session") == 2, "the key that is back")


def test_a_rotated_host_key_is_refused_until_it_is_pinned(server: Sshd) -> None:
    pinned = server.directory / "pinned"
    pinned.write_text(server.known_hosts)
    server.rotate_host_key()
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in refusal(server, known_hosts=pinned)
    with Ssh(server):
        wait_until(lambda: "Starting session" in server.log(), "a session under the new key")


def test_a_second_host_key_disturbs_nobody_who_has_pinned_the_first(server: Sshd) -> None:
    pinned = server.directory / "pinned"
    pinned.write_text(server.known_hosts)
    server.add_host_key("ecdsa")
    assert len(server.known_hosts.splitlines()) == 2
    with Ssh(server, known_hosts=pinned):
        wait_until(lambda: "Starting session" in server.log(), "a session")


def test_a_user_certificate_is_held_to_the_line_of_its_authority(server: Sshd, machine_id: str) -> None:
    authority, key = server.make_key("user_ca"), server.make_key("machine_key")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "m", "-n", server.user, f"{key}.pub"]
    subprocess.run(sign, check=True, timeout=DEADLINE_S)
    server.authorize(key_line(server.public_key(authority), Grant((machine_id,)), cert_authority=True))
    address, other = candidates(machine_id)[0], candidates(secrets.token_hex(4))[0]
    assert "remote port forwarding failed" in refusal(server, *reverse(other, 9), key=key)
    with listener(b"k3s") as port, Ssh(server, *reverse(address, port), key=key):
        wait_until(lambda: dialled(address, 6443) == b"k3s", "the address to answer")


def test_a_host_certificate_is_accepted_by_who_pins_its_authority(server: Sshd) -> None:
    authority = server.make_key("host_ca")
    sign = ["ssh-keygen", "-q", "-h", "-s", str(authority), "-I", "h", "-n", server.host]
    subprocess.run([*sign, f"{server.directory}/host_key.pub"], check=True, timeout=DEADLINE_S)
    server.reconfigure({"HostCertificate": f"{server.directory}/host_key-cert.pub"})
    pinned = server.directory / "pinned"
    pinned.write_text(f"@cert-authority * {server.public_key(authority)}\n")
    with Ssh(server, known_hosts=pinned):
        wait_until(lambda: "Starting session" in server.log(), "a session")


# --- Life and death ----------------------------------------------------------------------------------------


def _answers(address: str, what: bytes) -> bool:
    return dialled(address, 6443) == what


def test_many_machines_at_once() -> None:
    ids = [secrets.token_hex(4) for _ in range(50)]
    with Sshd(grant=Grant(tuple(ids))) as server, listener(b"k3s") as port:
        addresses = [candidates(machine_id)[0] for machine_id in ids]
        clients = [Ssh(server, *reverse(address, port)) for address in addresses]
        try:
            # Fifty logins are ten seconds of processor time: each has its own deadline.
            for each in addresses:
                wait_until(partial(_answers, each, b"k3s"), f"{each} to answer")
            assert len(server.sessions()) == 50
        finally:
            for client in clients:
                client.end()


@as_root
def test_a_session_is_told_by_its_clients_port_and_by_what_it_listens_on(
    server: Sshd, machine_id: str
) -> None:
    address = candidates(machine_id)[0]
    with Ssh(server) as plain, Ssh(server, *reverse(address, 9)) as with_listener:
        wait_until(lambda: dialled(address, 6443) is not None, "the reverse session")
        wait_until(lambda: server.log().count("Starting session") == 2, "both sessions")
        listening = {session.client_port: session.listens for session in server.sessions()}
        assert listening[client_port(with_listener)] == {f"{address}:6443"}
        assert listening[client_port(plain)] == frozenset()


def client_port(client: Ssh) -> int:
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
        ways = ("connection closed in mid-session", "connection reset in mid-session")
        assert client.stderr() in {recorded(way) for way in ways}
        assert not any(map(alive, before))
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
                assert not any(map(alive, pids))
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
    assert alive(int(facts["pid"]))
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == (-number if number == signal.SIGKILL else 0)
    wait_until(lambda: not alive(int(facts["pid"])), "sshd to end")


# --- Accounts ----------------------------------------------------------------------------------------------


@as_root
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_it_works_as_an_ordinary_user(machine_id: str) -> None:
    """A copy of this process becomes `daemon`, starts the server, and logs in to it."""

    def log_in() -> None:
        with Sshd(grant=Grant((machine_id,))) as server, listener(b"k3s") as port:
            assert server.user == "daemon"
            with Ssh(server, *reverse(candidates(machine_id)[0], port)):
                wait_until(lambda: dialled(candidates(machine_id)[0], 6443) == b"k3s", "the address")
                pids = (server.listener_pid, *server.session_pids())
                assert len(pids) > 1
        assert not any(map(alive, pids))

    assert in_a_copy_as("daemon", log_in) == ""


def in_a_copy_as(user: str, work: Callable[[], None]) -> str:
    """Run `work` in a forked child as `user`; return what went wrong there, or nothing."""
    import pwd
    import traceback

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            entry = pwd.getpwnam(user)
            os.setgroups([])
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            os.environ["HOME"] = "/"
            os.chdir("/")
            work()
        except BaseException:  # noqa: BLE001 - the top of a process: told to the other half, which fails
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    os.waitpid(pid, 0)
    return text


@pytest.fixture
def account() -> Iterator[str]:
    """A fresh account as `useradd` makes it: locked, its password being `!`."""
    name = f"b9t-{secrets.token_hex(3)}"
    subprocess.run(
        ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True
    )
    try:
        yield name
    finally:
        subprocess.run(["userdel", name], check=True)


@as_root
def test_a_locked_account_is_refused_until_it_is_given_an_impossible_password(
    account: str, machine_id: str
) -> None:
    with Sshd(grant=Grant((machine_id,)), user=account) as server:
        assert refusal(server) == recorded("key not accepted").replace("root@", f"{account}@")
        assert "because account is locked" in server.log()
        subprocess.run(["usermod", "-p", "*", account], check=True)
        with Ssh(server):
            wait_until(lambda: "Starting session" in server.log(), "the session")
