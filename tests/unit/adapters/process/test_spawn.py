"""How a process is started: its PATH, the fallbacks for older systems, and that it dies with the agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.adapters.process import spawn as fork
from agent.adapters.process.run import run, spawn
from tests.unit.adapters.process.process_table import GENEROUS_S, eventually, running


def test_a_child_may_get_a_path_of_its_own(tmp_path: Path) -> None:
    done = run(["/bin/echo", "x"], timeout_s=GENEROUS_S, env={"PATH": str(tmp_path)})
    assert done.stdout == "x\n"


def test_the_fallback_without_setpriv_works_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork, "_setpriv", lambda: None)
    assert run(["echo", "x"], timeout_s=GENEROUS_S).stdout == "x\n"


def test_the_fallback_without_pidfd_works_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old(pid: int) -> int:
        raise OSError("Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", too_old)
    assert run(["echo", "x"], timeout_s=GENEROUS_S).stdout == "x\n"
    assert spawn(["sleep", "600"], name="test").stop(GENEROUS_S) == -signal.SIGTERM


@pytest.mark.fault(40)
@pytest.mark.parametrize("setpriv", [True, False])
def test_fault_40_children_die_with_a_killed_agent(setpriv: bool) -> None:
    """The thread that starts the child has ended long before the agent is killed."""
    code = (
        "import threading, time\n"
        "from agent.adapters.process import spawn as fork\n"
        f"{'' if setpriv else 'fork._setpriv = lambda: None'}\n"
        "from agent.adapters.process.run import spawn\n"
        "made = []\n"
        "t = threading.Thread(target=lambda: made.append(spawn(['sleep', '600'], name='x')))\n"
        "t.start(); t.join(); time.sleep(0.2)\n"
        "assert made[0].code is None, 'died with the thread'\n"
        "print(made[0].pid, flush=True); time.sleep(600)\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert agent.stdout is not None
    child = int(agent.stdout.readline())
    assert running(child)
    agent.kill()
    agent.wait()
    agent.stdout.close()
    assert eventually(lambda: not running(child))
