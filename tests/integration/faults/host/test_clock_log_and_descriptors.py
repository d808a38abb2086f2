"""Fault rows 42, 46 and 47: a wall clock that jumps, a log that nobody reads, and no free file descriptor."""

from __future__ import annotations

import calendar
import contextlib
import fcntl
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.agent_process import AgentProcess, is_running
from tests.integration.bounds import STOP_S, within
from tests.integration.fault_report import Report
from tests.integration.faults.keepalive_counts import wait_for_keepalives
from tests.integration.lab import laboratory
from tests.integration.polling import wait_for

F_SETPIPE_SZ = 1031
"""From linux/fcntl.h."""


def faketime_library() -> str:
    found = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
    if found is None:
        pytest.skip("no libfaketime on this host (package faketime)")
    return str(found)


@pytest.mark.fault(42)
def test_fault_42_clock_jumps(tmp_path: Path, report: Report) -> None:
    """libfaketime moves the wall clock of the agent and its children by more than a whole lease.

    Not scaled: an hour is longer than the real lease, and with real timings a busy host causes no time-outs.
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
            wait_for("the jump shows in the log", functools.partial(_is_ahead_by, agent, jump_s))
            wait_for_keepalives(agent, 3)
        status = agent.status()
        assert agent.ssh_pids() == children
        assert status["registration"]["times"] == 1
        assert status["keepalive"]["failures"] == 0
        assert [each["state"] for each in agent.events("state")].count("READY") == 1
        assert not [each for each in agent.events() if each["level"] in {"error", "warning"}]
        assert agent.stop() == 0
    report(
        "+1 h, -1 h and back: keepalives continued, same children, no registration, no warning",
        time.monotonic() - began_s,
    )


def _is_ahead_by(agent: AgentProcess, seconds: float) -> bool:
    """Whether the agent's last log line is ahead of the real time by `seconds`."""
    timestamp = agent.events()[-1]["ts"]
    ahead_s = calendar.timegm(time.strptime(timestamp[:19], "%Y-%m-%dT%H:%M:%S")) - time.time()
    return abs(ahead_s - seconds) < 60


@pytest.mark.fault(46)
def test_fault_46_nobody_reads_the_log(tmp_path: Path, report: Report) -> None:
    """The pipe is full before the agent writes its first line, at log level debug. Scaled: a lease of 15 s."""
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
            assert wait_for("READY and offering", agent.is_back)
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
    report(
        f"READY, keepalives continued, /healthz 200, stopped in {stop_s:.1f} s with exit 0",
        time.monotonic() - began_s,
    )


@pytest.mark.fault(47)
def test_fault_47_out_of_descriptors(tmp_path: Path, report: Report) -> None:
    """Scaled: a lease of 30 s (300 s)."""
    tuning = {"ttl_s": 30, "keepalive_timeout_s": 2, "call_retry_cap_s": 1, "keepalive_retry_s": 0.3}
    with laboratory(tmp_path, gateway_options=("--ttl", "30")) as lab:
        agent = lab.ready_agent(tuning, BETA9_KEEPALIVE_INTERVAL="1")
        soft, hard = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
        began_s = time.monotonic()
        resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (3, hard))
        logged = wait_for(
            "the error in the log",
            lambda: [e for e in agent.events() if "Too many open files" in json.dumps(e)],
        )
        for pid in agent.ssh_pids().values():
            os.kill(pid, signal.SIGKILL)
        wait_for(
            "the gateway would place nothing",
            lambda: not lab.gateway.would_place(agent.machine_id)[0] or not agent.ssh_pids(),
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
    report(
        f"no free descriptor for {degraded_s:.1f} s and ssh children killed: logged ({logged[0]['event']}), "
        f"back {recovered_s:.1f} s later",
        time.monotonic() - began_s,
    )
