"""The docker command, and containers that tests start: what they said, how they are, what is asked inside them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DOCKER = os.environ.get("DOCKER") or "docker"
IMAGE = "beta9-worker:dev"
COMMAND_S = 150
"""For any one docker command, of which `stop` may take a whole grace."""


@dataclass(frozen=True)
class Ended:
    """A docker command that has ended; `code` of `docker run` is the container's."""

    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def attempt(*words: str, timeout_s: float = COMMAND_S) -> Ended:
    """Run `docker WORDS…` to its end, however it ends."""
    done = subprocess.run(
        [DOCKER, *words], capture_output=True, text=True, timeout=timeout_s, check=False, errors="replace"
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def docker(*words: str, timeout_s: float = COMMAND_S) -> str:
    """Run `docker WORDS…`; its output. Raises: AssertionError with what it said where it fails."""
    done = attempt(*words, timeout_s=timeout_s)
    assert done.code == 0, f"docker {' '.join(words)}: {done.code}: {done.output[-2000:]}"
    return done.stdout


@dataclass(frozen=True)
class Container:
    """One container, by name or id."""

    name: str

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", self.name))[0]
        return found

    def health(self) -> str:
        """`starting`, `healthy` or `unhealthy`."""
        return str(self.inspect()["State"]["Health"]["Status"])

    def exit_code(self) -> int | None:
        """None while it runs."""
        state = self.inspect()["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def logs(self) -> str:
        return attempt("logs", self.name).output

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log lines of one event name, as objects."""
        told = [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]
        return [each for each in told if each["event"] == name]

    def execute(self, *words: str, options: Sequence[str] = ()) -> str:
        return docker("exec", *options, self.name, *words)

    def status(self) -> dict[str, Any]:
        """The agent's own; {} while it does not answer."""
        done = attempt("exec", self.name, "beta9-worker", "status", "--json")
        return dict(json.loads(done.stdout)) if done.code == 0 else {}

    def is_ready(self) -> bool:
        return bool(self.status().get("state") == "READY")
