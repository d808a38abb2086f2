"""Fault rows 38 to 49: what happens to the agent's process and to the machine under it.

Scaled where a test says so: leases of seconds instead of 300 s, 4 s of waiting for a lock instead of 15 s.
"""

from __future__ import annotations

import calendar
import contextlib
import fcntl
import functools
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.storage.state_dir import IDENTITY_NAME
from agent.demo.sshd.program import free_port
from tests.integration.bounds import at_least, within
from tests.integration.lab import AgentProcess, Lab, laboratory, wait_for
from tests.integration.told import Tell

HOST = "127.0.0.1"
F_SETPIPE_SZ = 1031
"""linux/fcntl.h"""
STOP_S = 5.0
"""Longest that SIGTERM may take with nothing to drain."""


def oks(agent: AgentProcess) -> int:
    return int(agent.status()["counters"]["keepalives"]["ok"])


def wait_for_keepalives(agent: AgentProcess, more: int = 2) -> None:
    before = oks(agent)
    wait_for(f"{more} more keepalives", lambda: oks(agent) >= before + more)


def is_running(pid: int) -> bool:
    """Whether that process lives (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_state(agent: AgentProcess, *names: str) -> None:
    wait_for(f"{names}", lambda: agent.status().get("state") in names)


# --- Signals ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts and never says anything: ssh waits for its banner."""
    with socket.create_server((HOST, 0), backlog=16) as server:
        yield int(server.getsockname()[1])


@pytest.mark.fault(38)
@pytest.mark.timeout(240)
def test_fault_38_sigterm_in_every_state(lab: Lab, tell: Tell) -> None:
    """STOPPED and FAILED end by themselves; DRAINING is row 39."""
    nowhere = str(free_port(HOST))
    took_s: dict[str, float] = {}

    def stop(name: str, agent: AgentProcess) -> None:
        began_s = time.monotonic()
        assert agent.stop(grace_s=30) == 0, f"{name}: {agent.lines[-5:]}"
        took_s[name] = time.monotonic() - began_s

    agent = lab.agent().start()
    wait_for("the first words", lambda: agent.events("starting"))
    stop("STARTING", agent)

    agent = lab.agent(BETA9_K3S="required", BETA9_K3S_API=f"{HOST}:{nowhere}").start()
    wait_for_state(agent, "PREPARING")
    stop("PREPARING", agent)

    with silent_server() as port:
        agent = lab.agent(
            {"ssh_connect_timeout_s": 60, "start_timeout_s": 60}, BETA9_SSH_PORT=str(port)
        ).start()
        wait_for_state(agent, "CONNECTING")
        stop("CONNECTING", agent)

    agent = lab.agent({"backoff_base_s": 60, "outage_cap_s": 60}, BETA9_SSH_PORT=nowhere).start()
    wait_for_state(agent, "BACKOFF")
    stop("BACKOFF", agent)

    number = lab.gateway.set_fault("hang", route="register")
    agent = lab.agent().start()
    wait_for("a register hangs", lambda: lab.gateway.requests("register", agent.machine_id))
    assert agent.status()["state"] == "REGISTERING"
    stop("REGISTERING", agent)
    lab.gateway.clear_faults(number)

    agent = lab.ready_agent()
    stop("READY", agent)
    assert lab.gateway.status(agent.machine_id) == "registered"

    agent = lab.ready_agent()
    lab.gateway.set_fault("hang")
    stop("READY, the gateway hangs", agent)
    lab.gateway.clear_faults()

    agent = lab.ready_agent()
    lab.gateway.set_fault("database_down")
    stop("READY, the gateway refuses", agent)
    lab.gateway.clear_faults()

    agent = lab.ready_agent()
    lab.sshd.stop()
    wait_for_state(agent, "CONNECTING", "BACKOFF")
    stop("BACKOFF, registered", agent)

    slowest = max(took_s, key=lambda name: took_s[name])
    assert took_s[slowest] < within(STOP_S), took_s
    tell(
        f"exit 0 in {len(took_s)} situations; slowest {slowest}: {took_s[slowest]:.1f} s",
        took_s[slowest],
    )


@pytest.mark.fault(39)
def test_fault_39_second_sigterm(lab: Lab, tell: Tell) -> None:
    """Scaled up: saying goodbye may take 60 s (3 s), so that only the second signal can be what ends it."""
    agent = lab.ready_agent({"farewell_s": 60})
    lab.gateway.set_fault("hang")
    agent.signal(signal.SIGTERM)
    wait_for_state(agent, "DRAINING")
    began_s = time.monotonic()
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    took_s = time.monotonic() - began_s
    assert took_s < within(5)
    tell(f"exit 0 after {took_s:.1f} s", took_s)


@pytest.mark.fault(40)
def test_fault_40_killed(lab: Lab, tell: Tell) -> None:
    agent = lab.agent(BETA9_MACHINE_ID="")
    agent.start()
    own_id = wait_for("an id of its own", lambda: agent.status().get("machine_id"))
    lab.authorize(own_id)
    agent.wait_back()
    children = agent.ssh_pids()
    began_s = time.monotonic()
    agent.signal(signal.SIGKILL)
    agent.wait_exit()
    wait_for("no ssh is left", lambda: not [pid for pid in children.values() if is_running(pid)])
    gone_s = time.monotonic() - began_s
    agent.start()
    agent.wait_back()
    assert agent.status()["machine_id"] == own_id
    assert [machine["machine_id"] for machine in lab.gateway.machines() if machine["status"] == "ready"] == [
        own_id
    ]
    tell(
        f"{len(children)} ssh children gone after {gone_s:.1f} s; the same id, ready again",
        time.monotonic() - began_s,
    )


@pytest.mark.fault(41)
def test_fault_41_stopped_longer_than_the_lease(tmp_path: Path, tell: Tell) -> None:
    """Scaled: a lease of 8 s (300 s), stopped until the gateway has forgotten the machine (10 min)."""
    tuning = {"ttl_s": 8, "keepalive_timeout_s": 1, "call_retry_cap_s": 1}
    with laboratory(tmp_path, gateway_options=("--ttl", "8")) as lab:
        agent = lab.ready_agent(tuning, BETA9_KEEPALIVE_INTERVAL="2")
        times = agent.status()["registration"]["times"]
        agent.signal(signal.SIGSTOP)
        wait_for("the entry expires", lambda: lab.gateway.machine(agent.machine_id) is None)
        began_s = time.monotonic()
        agent.signal(signal.SIGCONT)
        wait_for("ready again", lambda: lab.gateway.status(agent.machine_id) == "ready")
        took_s = time.monotonic() - began_s
        agent.wait_back()
        again = agent.status()["registration"]["times"] - times
        assert again == 1
        why = [each.get("state") for each in agent.events("state")][-2:]
        assert why == ["REGISTERING", "READY"]
    tell(
        f"ready {took_s * 1000:.0f} ms after it was continued, one registration",
        took_s,
    )


# --- Clock, disk, pipe, descriptors ----------------------------------------------------------------------


def faketime_library() -> str:
    found = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
    if found is None:
        pytest.skip("no libfaketime on this host (package faketime)")
    return str(found)


@pytest.mark.fault(42)
def test_fault_42_clock_jumps(tmp_path: Path, tell: Tell) -> None:
    """libfaketime moves the wall clock, by more than a whole lease, under the agent and its children.

    Not scaled: an hour is more than the real lease, and a call that is slow on a busy host is no fault here.
    """
    offset = tmp_path / "offset"
    offset.write_text("+0")
    with laboratory(tmp_path) as lab:
        agent = lab.agent(
            BETA9_KEEPALIVE_INTERVAL="1",
            BETA9_LOG_LEVEL="debug",
            LD_PRELOAD=faketime_library(),
            FAKETIME_TIMESTAMP_FILE=str(offset),
            FAKETIME_CACHE_DURATION="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            DONT_FAKE_MONOTONIC="1",
        ).start()
        agent.wait_back()
        children = agent.ssh_pids()
        began_s = time.monotonic()
        for jump_s in (3600, -3600, 0):
            offset.write_text(f"{jump_s:+d}")
            wait_for("the log shows the jump", functools.partial(_is_ahead_by, agent, jump_s))
            wait_for_keepalives(agent, 3)
        status = agent.status()
        assert agent.ssh_pids() == children
        assert status["registration"]["times"] == 1
        assert status["keepalive"]["failures"] == 0
        assert [each["state"] for each in agent.events("state")].count("READY") == 1
        assert not [each for each in agent.events() if each["level"] in {"error", "warning"}]
        assert agent.stop() == 0
    tell(
        "+1 h, -1 h and back: keepalives went on, same children, no registration, no warning",
        time.monotonic() - began_s,
    )


def _is_ahead_by(agent: AgentProcess, seconds: float) -> bool:
    """Whether the agent's last log line is that much ahead of the true time."""
    told = agent.events()[-1]["ts"]
    ahead_s = calendar.timegm(time.strptime(told[:19], "%Y-%m-%dT%H:%M:%S")) - time.time()
    return abs(ahead_s - seconds) < 60


@contextlib.contextmanager
def small_disk(path: Path, kib: int) -> Iterator[Callable[[], None]]:
    """A tmpfs of its own at `path`; what is yielded fills it to the last byte."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    path.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=0700", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")

    def fill() -> None:
        with contextlib.suppress(OSError), (path / "filler").open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    try:
        yield fill
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A path short enough that the agent keeps its sockets in its state directory."""
    path = Path(tempfile.mkdtemp(prefix="b9-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.mark.fault(43)
def test_fault_43_state_disk_full(lab: Lab, tell: Tell, short_directory: Path) -> None:
    state = short_directory / "state"
    with small_disk(state, 256) as fill:
        agent = lab.agent(
            {"facts_interval_s": 0.5}, BETA9_STATE_DIR=str(state), BETA9_KEEPALIVE_INTERVAL="1"
        ).start()
        agent.wait_back()
        assert not agent.status()["degraded"]
        began_s = time.monotonic()
        fill()
        wait_for(
            "degraded in /status", lambda: [t for t in agent.status()["degraded"] if "disk is full" in t]
        )
        noticed_s = time.monotonic() - began_s
        assert _metric(agent, "beta9_worker_degraded_conditions") >= 1
        wait_for_keepalives(agent)
        # Connecting again needs no room either.
        os.kill(agent.ssh_pids()["api"], signal.SIGKILL)
        wait_for("a new tunnel", lambda: agent.status()["tunnel"]["generation"] == 2)
        agent.wait_back()
        assert agent.status()["registration"]["times"] == 1
        assert agent.stop() == 0

        # And a start on a disk that is full from the beginning, without an id to be found there.
        for left in state.iterdir():
            if left.name != "filler":
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        fill()
        agent.start()
        agent.wait_back()
        wait_for_keepalives(agent)
        degraded = agent.status()["degraded"]
        assert [text for text in degraded if "disk is full" in text]
        assert agent.stop() == 0

        # Nor does a disk that the kernel made read-only keep the machine away.
        subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True)
        agent.start()
        agent.wait_back()
        assert [text for text in agent.status()["degraded"] if "going on without" in text]
        assert agent.stop() == 0
    tell(
        f"degraded after {noticed_s:.1f} s, keepalives and a reconnect as before; started on the full disk, "
        "and on a read-only one, too",
        time.monotonic() - began_s,
    )


def _metric(agent: AgentProcess, name: str) -> float:
    text = str(agent.get("/metrics")[1])
    line = next(line for line in text.splitlines() if line.startswith(name))
    return float(line.rpartition(" ")[2])


def _alone(lab: Lab) -> AgentProcess:
    """An agent with an id of its own and no k3s: leased, nothing offered."""
    return lab.agent(BETA9_MACHINE_ID="", BETA9_K3S="none", BETA9_K3S_TOKEN_FILE="")


@pytest.mark.fault(44)
def test_fault_44_state_file_damaged(lab: Lab, tell: Tell) -> None:
    began_s = time.monotonic()
    damages = {"cut off": '{"machine_id": "1165', "empty": ""}
    if os.geteuid() == 0:
        damages["of another owner"] = '{"machine_id": "00000000"}'
    for name, text in damages.items():
        agent = _alone(lab)
        state = Path(agent.environment["BETA9_STATE_DIR"])
        state.mkdir(mode=0o700)
        file = state / IDENTITY_NAME
        file.touch(0o600)
        file.write_text(text)
        if name == "of another owner":
            os.chown(file, 65534, -1)
        agent.start()
        wait_for_state(agent, "READY")
        assert file.with_name(f"{IDENTITY_NAME}.bad").exists(), name
        said = [each["text"] for each in agent.events("machine_id")]
        assert "set aside" in said[0], name
        status = agent.status()
        assert status["machine_id"] not in {"00000000", "1165"}
        assert json.loads(file.read_text())["machine_id"] == status["machine_id"]
        assert agent.stop() == 0
    tell(
        f"{', '.join(damages)}: each set aside, said, READY with a new id that is kept",
        time.monotonic() - began_s,
    )


CRASHING_WRITER = """
import os, pathlib, signal, sys
from agent.adapters.storage.atomic_json import write_json
pathlib.Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
write_json(pathlib.Path(sys.argv[1]), {"machine_id": "ffffffff"})
"""
"""The real writer, killed at the one moment the row names: the new file is whole, the old not yet replaced."""


@pytest.mark.fault(45)
def test_fault_45_crash_between_write_and_rename(lab: Lab, tell: Tell) -> None:
    began_s = time.monotonic()
    agent = _alone(lab).start()
    wait_for_state(agent, "READY")
    own_id = agent.status()["machine_id"]
    assert agent.stop() == 0
    file = Path(agent.environment["BETA9_STATE_DIR"]) / IDENTITY_NAME
    writer = subprocess.run([sys.executable, "-c", CRASHING_WRITER, str(file)], check=False)
    assert writer.returncode == -signal.SIGKILL
    assert list(file.parent.glob(".*.tmp")), "the crash left nothing behind: the test shows nothing"
    agent.start()
    wait_for_state(agent, "READY")
    assert agent.status()["machine_id"] == own_id
    tell("killed before the rename: the old id is used", time.monotonic() - began_s)


@pytest.mark.fault(46)
def test_fault_46_nobody_reads_the_log(tmp_path: Path, tell: Tell) -> None:
    """The pipe is full before the agent writes its first line, and the log is at debug. Scaled: lease of 15 s."""
    tuning = {"ttl_s": 15, "keepalive_timeout_s": 2, "call_retry_cap_s": 1}
    reading, writing = os.pipe()
    fcntl.fcntl(writing, F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"\n" * 512)
    os.set_blocking(writing, True)
    with laboratory(tmp_path, gateway_options=("--ttl", "15")) as lab:
        agent = lab.agent(tuning, BETA9_KEEPALIVE_INTERVAL="1", BETA9_LOG_LEVEL="debug")
        began_s = time.monotonic()
        argv = [sys.executable, "-m", "agent", "run", "--env-file", os.devnull]
        process = subprocess.Popen(argv, env=agent.environment, stderr=writing)
        os.close(writing)
        try:
            agent_is_back = wait_for("READY and offering", agent.is_back)
            assert agent_is_back
            wait_for_keepalives(agent, 5)
            assert agent.get("/healthz")[0] == 200
            process.send_signal(signal.SIGTERM)
            stopping_s = time.monotonic()
            assert process.wait(30) == 0
            stop_s = time.monotonic() - stopping_s
        finally:
            process.kill()
            process.wait(10)
            os.close(reading)
    assert stop_s < within(STOP_S)
    tell(
        f"READY, keepalives went on, /healthz well, stopped in {stop_s:.1f} s with exit 0",
        time.monotonic() - began_s,
    )


@pytest.mark.fault(47)
def test_fault_47_out_of_descriptors(tmp_path: Path, tell: Tell) -> None:
    """Scaled: a lease of 30 s (300 s)."""
    tuning = {"ttl_s": 30, "keepalive_timeout_s": 2, "call_retry_cap_s": 1, "keepalive_retry_s": 0.3}
    with laboratory(tmp_path, gateway_options=("--ttl", "30")) as lab:
        agent = lab.ready_agent(tuning, BETA9_KEEPALIVE_INTERVAL="1")
        soft, hard = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
        began_s = time.monotonic()
        resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (3, hard))
        said = wait_for(
            "trouble is said", lambda: [e for e in agent.events() if "Too many open files" in json.dumps(e)]
        )
        for pid in agent.ssh_pids().values():
            os.kill(pid, signal.SIGKILL)
        wait_for(
            "nothing more is placed here",
            lambda: not lab.gateway.would_place(agent.machine_id)[0] or _down(agent),
        )
        degraded_s = time.monotonic() - began_s
        assert is_running(agent.pid)
        resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (soft, hard))
        healed_s = time.monotonic()
        agent.wait_back()
        recovered_s = time.monotonic() - healed_s
        wait_for_keepalives(agent)
        assert not agent.events("bug")
        assert agent.stop() == 0
    tell(
        f"without a descriptor for {degraded_s:.1f} s and its ssh children killed: said ({said[0]['event']}), "
        f"back {recovered_s:.1f} s after",
        time.monotonic() - began_s,
    )


def _down(agent: AgentProcess) -> bool:
    return not agent.ssh_pids()


# --- What a start finds ----------------------------------------------------------------------------------


@pytest.mark.fault(48)
def test_fault_48_no_ssh_binary(lab: Lab, tell: Tell, tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("setpriv", "sh"):
        found = shutil.which(name)
        assert found
        (bare / name).symlink_to(found)
    agent = lab.agent(PATH=str(bare))
    began_s = time.monotonic()
    assert agent.start().wait_exit() == 78
    took_s = time.monotonic() - began_s
    last = agent.events("ended")[0]
    assert "openssh-client" in last["why"]
    tell(f"exit 78: {last['why']}", took_s)


@pytest.mark.fault(49)
def test_fault_49_two_agents_one_state_directory(lab: Lab, tell: Tell) -> None:
    """Scaled: the lock is waited for 4 s (15 s)."""
    first = lab.ready_agent()

    def second_agent() -> AgentProcess:
        changed: dict[str, Any] = {
            "BETA9_GATEWAY_PORT": str(free_port(HOST)),
            "BETA9_STATUS_ADDR": f"{HOST}:{free_port(HOST)}",
            "BETA9_TUNING": "conflict_s=4",
        }
        return AgentProcess({**first.environment, **changed}, first.machine_id)

    began_s = time.monotonic()
    second = second_agent().start()
    assert second.wait_exit() == 78
    took_s = time.monotonic() - began_s
    said = second.events("stopped")[0]["text"]
    assert f"pid {first.pid})" in said
    assert took_s >= at_least(4)
    assert first.is_back()

    # Where the first one is just leaving, the second takes its place.
    third = second_agent().start()
    try:
        assert first.stop() == 0
        third.wait_back()
    finally:
        third.stop()
    tell(
        f"exit 78 after {took_s:.1f} s naming it; one that waits while the first leaves takes its place",
        took_s,
    )
