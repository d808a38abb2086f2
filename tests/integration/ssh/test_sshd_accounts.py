"""The throw-away sshd for users other than root."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator

import psutil  # noqa: F401 - loaded before the fork, since `daemon` may not be allowed to read site-packages
import pytest

from agent.core.provisioning.authorized_keys import Grant
from agent.core.tunnel.addresses import candidates
from tests.integration.agent_process import is_running
from tests.integration.ssh_client import (
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


@as_root
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_it_works_as_an_ordinary_user(machine_id: str) -> None:
    """A fork of this process becomes `daemon`, starts the server, and logs in to it."""

    def log_in() -> None:
        with Sshd(grant=Grant((machine_id,))) as server, listener(b"k3s") as port:
            assert server.user == "daemon"
            with Ssh(server, *reverse_forward(candidates(machine_id)[0], port)):
                wait_until(lambda: greeting_from(candidates(machine_id)[0], 6443) == b"k3s", "the address")
                pids = (server.listener_pid, *server.session_pids())
                assert len(pids) > 1
        assert not any(map(is_running, pids))

    assert fork_as("daemon", log_in) == ""


def fork_as(user: str, work: Callable[[], None]) -> str:
    """Run `work` in a forked child as `user`; return the traceback of what it raised, or ""."""
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
        except BaseException:  # noqa: BLE001 - the top of a process: the parent fails with the traceback
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return text


@pytest.fixture
def account() -> Iterator[str]:
    """A new account as `useradd` creates it: locked, with the password `!`."""
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
