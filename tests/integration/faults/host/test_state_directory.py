"""Fault rows 43 to 45: a state directory that is full, read-only or damaged."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.adapters.storage.state_dir import IDENTITY_NAME
from tests.integration.agent_process import AgentProcess
from tests.integration.fault_report import Report
from tests.integration.faults.keepalive_counts import wait_for_keepalives
from tests.integration.lab import Lab
from tests.integration.polling import wait_for


@contextlib.contextmanager
def small_disk(path: Path, kib: int) -> Iterator[Callable[[], None]]:
    """Mount a small tmpfs at `path`. Yields a function that fills it to the last byte."""
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
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.strip()}")

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
    """A path short enough for the agent to keep its sockets in its state directory."""
    path = Path(tempfile.mkdtemp(prefix="b9-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.mark.fault(43)
def test_fault_43_state_disk_full(lab: Lab, report: Report, short_directory: Path) -> None:
    state = short_directory / "state"
    with small_disk(state, 256) as fill:
        agent = lab.agent(
            {"facts_interval_s": 0.5}, BETA9_STATE_DIR=str(state), BETA9_KEEPALIVE_INTERVAL="1"
        ).start()
        agent.wait_back()
        assert not agent.status()["degraded"]
        began_s = time.monotonic()
        fill()
        wait_for("degraded in /status", lambda: degraded(agent, "disk is full"))
        noticed_s = time.monotonic() - began_s
        assert metric(agent, "beta9_worker_degraded_conditions") >= 1
        wait_for_keepalives(agent)
        # A reconnect must not need free space either.
        os.kill(agent.ssh_pids()["api"], signal.SIGKILL)
        wait_for("a new tunnel", lambda: agent.status()["tunnel"]["generation"] == 2)
        agent.wait_back()
        assert agent.status()["registration"]["times"] == 1
        assert agent.stop() == 0

        empty_except_filler(state)
        fill()
        agent.start()
        agent.wait_back()
        wait_for_keepalives(agent)
        assert degraded(agent, "disk is full")
        assert agent.stop() == 0

        subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True)
        agent.start()
        agent.wait_back()
        assert degraded(agent, "continuing without")
        assert agent.stop() == 0
    report(
        f"degraded after {noticed_s:.1f} s, keepalives and a reconnect as before; started on the full disk, "
        "and on a read-only one, too",
        time.monotonic() - began_s,
    )


def empty_except_filler(directory: Path) -> None:
    """Remove the agent's files, so that it starts without a saved machine id."""
    for path in directory.iterdir():
        if path.name != "filler":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def degraded(agent: AgentProcess, text: str) -> list[str]:
    """Return the degraded conditions in /status that contain `text`."""
    return [each for each in agent.status()["degraded"] if text in each]


def metric(agent: AgentProcess, name: str) -> float:
    text = str(agent.get("/metrics")[1])
    line = next(line for line in text.splitlines() if line.startswith(name))
    return float(line.rpartition(" ")[2])


def leased_agent(lab: Lab) -> AgentProcess:
    """Return an agent with a generated machine id and without k3s: it gets a lease and offers nothing."""
    return lab.agent(BETA9_MACHINE_ID="", BETA9_K3S="none", BETA9_K3S_TOKEN_FILE="")


@pytest.mark.fault(44)
def test_fault_44_state_file_damaged(lab: Lab, report: Report) -> None:
    began_s = time.monotonic()
    damages = {"cut off": '{"machine_id": "1165', "empty": ""}
    if os.geteuid() == 0:
        damages["of another owner"] = '{"machine_id": "00000000"}'
    for name, text in damages.items():
        agent = leased_agent(lab)
        state = Path(agent.environment["BETA9_STATE_DIR"])
        state.mkdir(mode=0o700)
        file = state / IDENTITY_NAME
        file.touch(0o600)
        file.write_text(text)
        if name == "of another owner":
            os.chown(file, 65534, -1)
        agent.start()
        agent.wait_for_state("READY")
        assert file.with_name(f"{IDENTITY_NAME}.bad").exists(), name
        messages = [each["text"] for each in agent.events("machine_id")]
        assert "set aside" in messages[0], name
        status = agent.status()
        assert status["machine_id"] not in {"00000000", "1165"}
        assert json.loads(file.read_text())["machine_id"] == status["machine_id"]
        assert agent.stop() == 0
    report(
        f"{', '.join(damages)}: each set aside and logged, READY with a new id that is saved",
        time.monotonic() - began_s,
    )


CRASHING_WRITER = """
import os, pathlib, signal, sys
from agent.adapters.storage.atomic_json import write_json
pathlib.Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
write_json(pathlib.Path(sys.argv[1]), {"machine_id": "ffffffff"})
"""
"""The real writer, killed when the new file is complete and the old one not yet replaced."""


@pytest.mark.fault(45)
def test_fault_45_crash_between_write_and_rename(lab: Lab, report: Report) -> None:
    began_s = time.monotonic()
    agent = leased_agent(lab).start()
    agent.wait_for_state("READY")
    own_id = agent.status()["machine_id"]
    assert agent.stop() == 0
    file = Path(agent.environment["BETA9_STATE_DIR"]) / IDENTITY_NAME
    writer = subprocess.run([sys.executable, "-c", CRASHING_WRITER, str(file)], check=False)
    assert writer.returncode == -signal.SIGKILL
    assert list(file.parent.glob(".*.tmp")), "no temporary file is left: the writer was not killed in between"
    agent.start()
    agent.wait_for_state("READY")
    assert agent.status()["machine_id"] == own_id
    report("killed before the rename: the old id is used", time.monotonic() - began_s)
