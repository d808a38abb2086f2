"""The docker command, and the containers that tests start: their logs, their health, and commands inside them."""

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
"""Timeout of one docker command; `stop` may take the whole grace period."""


@dataclass(frozen=True)
class Ended:
    """The result of a docker command; after `docker run`, `code` is the container's exit code."""

    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def attempt(*words: str, timeout_s: float = COMMAND_S) -> Ended:
    """Run `docker WORDS…` and return its result, whether or not it succeeds."""
    done = subprocess.run(
        [DOCKER, *words], capture_output=True, text=True, timeout=timeout_s, check=False, errors="replace"
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def docker(*words: str, timeout_s: float = COMMAND_S) -> str:
    """Run `docker WORDS…` and return its output. Raises: AssertionError with its output, if it fails."""
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
        """Return `starting`, `healthy` or `unhealthy`."""
        return str(self.inspect()["State"]["Health"]["Status"])

    def exit_code(self) -> int | None:
        """Return the exit code, or None while the container is running."""
        state = self.inspect()["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def logs(self) -> str:
        return attempt("logs", self.name).output

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines with this event name, parsed."""
        lines = [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]
        return [each for each in lines if each["event"] == name]

    def execute(self, *words: str, options: Sequence[str] = ()) -> str:
        return docker("exec", *options, self.name, *words)

    def status(self) -> dict[str, Any]:
        """Return the agent's status; {} while it does not answer."""
        done = attempt("exec", self.name, "beta9-worker", "status", "--json")
        return dict(json.loads(done.stdout)) if done.code == 0 else {}

    def is_ready(self) -> bool:
        return bool(self.status().get("state") == "READY")
