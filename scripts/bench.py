"""Measures the speed and size figures in README and docs on this machine and prints them as a table.

    make bench                                     everything; about three minutes
    python -m scripts.bench --runs 3 --idle 10     a first impression
    python -m scripts.bench --import requests click [--python OTHER/bin/python]
                                                   the cost of importing a library

Agent, ssh and sshd are the real programs, on loopback; the gateway and the k3s API are the embedded ones, as separate
processes. There are no assertions: figures depend on the machine's load, and people learn to ignore a test that fails
because of it.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.lab import AgentProcess, Lab, children_of, laboratory, wait_for

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_IMPORT = """
import sys, time
def memory_kib():
    return int(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1])
before_kib, began_s = memory_kib(), time.perf_counter()
for name in sys.argv[1:]:
    __import__(name)
print(time.perf_counter() - began_s, (memory_kib() - before_kib) / 1024)
"""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    measured: str
    target: str = ""
    how: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    args = _arguments(argv)
    load = os.getloadavg()[0]
    if args.modules:
        show([imports_row(args.python, [name], args.runs) for name in args.modules], load)
        return 0
    rows = [imports_row(sys.executable, ["agent.cli", "agent.runtime.main", "requests"], args.runs)]
    with tempfile.TemporaryDirectory(prefix="beta9-bench-") as place, laboratory(Path(place)) as lab:
        rows.insert(0, start_row(lab, args.runs))
        # settled_s=0 makes every loss count as the first; otherwise losses less than a minute apart would back off.
        agent = lab.ready_agent({"settled_s": 0}, BETA9_KEEPALIVE_INTERVAL="5")
        rows.append(reconnect_row(agent, "api", args.runs))
        rows.append(reconnect_row(agent, "reverse", args.runs))
        rows.append(wiped_row(lab, agent, args.runs))
        agent.stop()
        rows += idle_rows(lab.ready_agent(), args.idle)
    show(rows, load)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--runs", type=int, default=11, help="repetitions of each measurement; medians are shown"
    )
    parser.add_argument(
        "--idle", type=float, default=60, metavar="SECONDS", help="how long to measure the idle agent"
    )
    parser.add_argument(
        "--import", dest="modules", nargs="+", metavar="MODULE", help="measure only these imports"
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter for --import")
    return parser.parse_args(argv)


# --- Starting --------------------------------------------------------------------------------------------


def imports_row(python: str, modules: list[str], runs: int) -> Row:
    """Measure importing modules in a fresh interpreter: wall-clock time and added resident memory."""
    samples = [_import_once(python, modules) for _ in range(runs)]
    seconds = statistics.median(each[0] for each in samples)
    mib = statistics.median(each[1] for each in samples)
    is_agent = modules[0].startswith("agent")
    return Row(
        "of which imports" if is_agent else f"import {modules[0]}",
        f"{seconds:.2f} s, {mib:.0f} MiB",
        "≤ 0.35 s" if is_agent else "",
        f"{', '.join(modules)}; median of {runs}, {_range([each[0] for each in samples])}",
    )


def _import_once(python: str, modules: list[str]) -> tuple[float, float]:
    done = subprocess.run(
        [python, "-c", _IMPORT, *modules], capture_output=True, text=True, check=True, timeout=60
    )
    seconds, mib = done.stdout.split()
    return float(seconds), float(mib)


def start_row(lab: Lab, runs: int) -> Row:
    """Measure from process start to the first accepted keepalive, by the gateway's timestamps."""
    took_s = [_start_once(lab) for _ in range(runs)]
    return Row(
        "start to ready",
        f"{statistics.median(took_s):.2f} s",
        "≤ 1.2 s",
        f"process start to first accepted keepalive; median of {runs}, {_range(took_s)}",
    )


def _start_once(lab: Lab) -> float:
    agent = lab.agent()
    # The gateway and this process read the same CLOCK_MONOTONIC, so their timestamps can be subtracted.
    began_s = time.monotonic()
    agent.start()

    def accepted() -> list[float]:
        sent = lab.gateway.requests("keepalive", agent.machine_id)
        return [each["at_s"] for each in sent if each["status"] == 200]

    # Polling more often would take CPU time from the starting agent.
    first_s = wait_for("the first keepalive", _delayed(0.25, accepted))[0]
    agent.stop()
    return first_s - began_s


def _delayed(seconds: float, condition: Callable[[], list[float]]) -> Callable[[], list[float]]:
    def check() -> list[float]:
        time.sleep(seconds)
        return condition()

    return check


# --- Recovery --------------------------------------------------------------------------------------------


def reconnect_row(agent: AgentProcess, purpose: str, runs: int) -> Row:
    """Measure from killing an ssh child until the agent is ready, with both links up and capacity offered."""
    before = agent.status()["registration"]["times"]
    took_s = [_reconnect_once(agent, purpose) for _ in range(runs)]
    registrations = agent.status()["registration"]["times"] - before
    return Row(
        f"back after the {purpose} ssh child was killed",
        f"{statistics.median(took_s):.2f} s",
        "≤ 3 s",
        f"median of {runs}, at most {max(took_s):.2f} s; {registrations} new registrations",
    )


def _reconnect_once(agent: AgentProcess, purpose: str) -> float:
    link = {"api": "forward", "reverse": "reverse"}[purpose]
    generation = agent.status()["tunnel"][link]["generation"]
    began_s = time.monotonic()
    os.kill(agent.ssh_pids()[purpose], signal.SIGKILL)
    wait_for("a new child", lambda: agent.status()["tunnel"][link]["generation"] > generation)
    agent.wait_back()
    return time.monotonic() - began_s


def wiped_row(lab: Lab, agent: AgentProcess, runs: int) -> Row:
    """Measure from wiping the gateway's machines until the agent is ready there again."""
    took_s = [_wipe_once(lab, agent) for _ in range(runs)]
    return Row(
        "ready again after the gateway forgot everything",
        f"{statistics.median(took_s):.1f} s",
        "≤ 5 s",
        f"within one keepalive interval, here 5 s; median of {runs}, at most {max(took_s):.1f} s",
    )


def _wipe_once(lab: Lab, agent: AgentProcess) -> float:
    lab.gateway.wipe()
    began_s = time.monotonic()
    wait_for("ready again", lambda: lab.gateway.status(agent.machine_id) == "ready")
    return time.monotonic() - began_s


# --- Idling ----------------------------------------------------------------------------------------------


def idle_rows(agent: AgentProcess, seconds: float) -> list[Row]:
    """Measure CPU time and memory of a ready agent and its descendants."""
    time.sleep(5)  # lazy initialisation is over by then
    before = {pid: cpu_s(pid) for pid in _family(agent.pid)}
    began_s = time.monotonic()
    time.sleep(seconds)
    lasted_s = time.monotonic() - began_s
    used_s = {pid: cpu_s(pid) - before.get(pid, 0.0) for pid in _family(agent.pid)}
    share = 100 * sum(used_s.values()) / lasted_s
    own = 100 * used_s[agent.pid] / lasted_s
    memory = {pid: pss_mib(pid) for pid in _family(agent.pid)}
    ssh = len(agent.ssh_pids())
    return [
        Row(
            "idle, share of one core",
            f"{share:.2f} %",
            "≤ 0.3 %",
            f"agent {own:.2f} %, the rest its {len(memory) - 1} children; over {lasted_s:.0f} s",
        ),
        Row(
            "memory (PSS)",
            f"{sum(memory.values()):.0f} MiB",
            "≤ 65 MiB",
            f"agent {memory[agent.pid]:.0f} MiB, the rest {ssh} ssh children",
        ),
    ]


def _family(pid: int) -> list[int]:
    found = [pid]
    for child in children_of(pid):
        found += _family(child)
    return found


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that have ended."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # proc(5): utime, stime, cutime, cstime are fields 14 to 17; the first two, up to ")", are cut off here.
    return sum(int(word) for word in words[11:15]) / TICKS_PER_S


def pss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


# --- Output ----------------------------------------------------------------------------------------------


def _range(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} to {max(seconds):.2f}"


def show(rows: list[Row], load: float) -> None:
    """Print the table below a line about the machine."""
    python = f"Python {sys.version.split()[0]}"
    print(f"{_processor()}, {os.cpu_count()} cores, {python}; load {load:.1f} before\n")
    head = Row("", "measured", "target")
    widths = [
        max(len(getattr(row, name)) for row in [head, *rows]) for name in ("what", "measured", "target")
    ]
    for row in [head, *rows]:
        cells = [
            row.what.ljust(widths[0]),
            row.measured.rjust(widths[1]),
            row.target.rjust(widths[2]),
            row.how,
        ]
        print("  ".join(cells).rstrip())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


if __name__ == "__main__":
    sys.exit(main())
