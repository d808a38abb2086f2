"""An agent as a real process: start and signal it, and read its status, its log and its ssh children."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.adapters.process.run import Child, spawn
from tests.integration.netns import HERE, Place
from tests.integration.polling import DEADLINE_S, wait_for


@dataclass
class AgentProcess:
    """One agent; `lines` is its log, and `place` the network namespace in which it runs."""

    environment: dict[str, str]
    machine_id: str
    lines: list[str] = field(default_factory=list)
    child: Child | None = None
    place: Place = HERE

    def start(self, *arguments: str) -> AgentProcess:
        """Start it, or start it again."""
        command = [sys.executable, "-m", "agent", "run", "--env-file", os.devnull, *arguments]
        self.child = spawn(
            [*self.place.prefix, *command], name="agent", env=self.environment, on_line=self.lines.append
        )
        return self

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the agent's program on the same machine."""
        argv = [*self.place.prefix, sys.executable, "-m", "agent", *words]
        return subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.child is not None
        return self.child.pid

    def stop(self, grace_s: float = 20) -> int | None:
        """Send SIGTERM and return the exit code."""
        assert self.child is not None
        return self.child.stop(grace_s)

    def signal(self, number: int) -> None:
        """Send a signal to the agent alone, not to its children."""
        os.kill(self.pid, number)

    def wait_exit(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait until it exits by itself and return the exit code."""
        assert self.child is not None
        code = self.child.wait(deadline_s)
        assert code is not None, f"still running after {deadline_s:g} s"
        return code

    def get(self, path: str) -> tuple[int, Any]:
        """GET from its status server: HTTP status and body; (0, None) if nothing answers."""
        url = f"http://{self.environment['BETA9_STATUS_ADDR']}{path}"
        try:
            with self.place.inside(), urllib.request.urlopen(url, timeout=5) as reply:
                body = reply.read()
                code = reply.status
        except urllib.error.HTTPError as error:
            body, code = error.read(), error.code
        except OSError:
            return 0, None
        try:
            return code, json.loads(body)
        except ValueError:
            return code, body.decode(errors="replace")

    def status(self) -> dict[str, Any]:
        """Return its `/status`; {} if nothing answers."""
        return self.get("/status")[1] or {}

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return its JSON log lines, or only those of the event `name`."""
        events = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [each for each in events if name is None or each["event"] == name]

    def wait_for_state(self, *names: str) -> None:
        """Wait until its displayed state is one of `names`."""
        wait_for(f"the state {' or '.join(names)}", lambda: self.status().get("state") in names)

    def is_back(self) -> bool:
        """Whether it is READY with both directions of the tunnel up, and the gateway may place work on it."""
        status = self.status()
        return bool(
            status
            and status["state"] == "READY"
            and status["placement"]["work_can_be_placed"]
            and status["tunnel"]["up"]
            and status["tunnel"]["reverse"]["up"]
        )

    def wait_back(self, deadline_s: float = DEADLINE_S) -> float:
        """Wait until it is READY and offers capacity; return the seconds that took."""
        began_s = time.monotonic()
        try:
            wait_for("READY and offering", lambda: self.is_back() or self._has_ended(), deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; /status {self.status()}; log {self.lines[-15:]}") from error
        return time.monotonic() - began_s

    def _has_ended(self) -> bool:
        """Return False. Raises AssertionError with the end of the log if the process has exited."""
        assert self.child is not None
        assert self.child.code is None, f"the agent exited with {self.child.code}: {self.lines[-15:]}"
        return False

    def ssh_pids(self) -> dict[str, int]:
        """Return the pids of its ssh children by purpose (`api`, `reverse`, `data`)."""
        found = {}
        for pid in children_of(self.pid):
            words = command_line(pid)
            if not words or not words[0].endswith("ssh"):
                continue
            if "-R" in words:
                found["reverse"] = pid
            elif any(".sock:" in word for word in words):
                found["api"] = pid
            else:
                found["data"] = pid
        return found


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's direct children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:  # exited in the meantime
            continue
        if int(words[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def command_line(pid: int) -> list[str]:
    """Return a process's command line; [] if it has exited."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


def is_running(pid: int) -> bool:
    """Whether a process is alive; a zombie that waits for its parent is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
