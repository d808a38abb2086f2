"""Fault rows 61 to 63: wrong settings, unusual tokens, and secrets that must not leak."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from agent.settings.fields import FIELDS
from tests.integration.agent_process import AgentProcess, children_of
from tests.integration.fault_report import Report
from tests.integration.faults.secret_search import found_in, key_parts
from tests.integration.lab import Lab
from tests.integration.polling import wait_for


def run_agent(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run an agent command to its end."""
    argv = [sys.executable, "-m", "agent", *words]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.fault(61)
def test_fault_61_every_setting_wrong_at_once(report: Report) -> None:
    secret = "the-secret-itself\twith-a-tab"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("BETA9_")}
    wrong = {field.variable: "-\x01?" for field in FIELDS}
    wrong |= {field.variable: secret for field in FIELDS if field.file_variant}
    wrong |= {"BETA9_PROVIDER_NAME": "", "BETA9_TUNING": "ttl=1"}
    began_s = time.monotonic()
    ended = run_agent({**plain, **wrong}, "run", "--env-file", os.devnull)
    took_s = time.monotonic() - began_s
    stderr = ended.stderr
    assert ended.returncode == 78
    missing = [field.variable for field in FIELDS if stderr.count(f" {field.variable}:") != 1]
    assert not missing, stderr
    assert "the-secret-itself" not in stderr
    assert "with-a-tab" not in stderr
    assert "Traceback" not in stderr
    report(
        f"exit 78, {len(FIELDS)} settings named once each, no secret",
        took_s,
    )


CARRIED = {
    "quotes": 'it\'s "quoted"',
    "shell characters": "$(id)`id`;|&<>*?~!#\\",
    "10 kB": "x1y2" * 2560,
    "not ASCII": "caf\xe9-caf\xe9",
}
REFUSED = {"a line break": "two\nlines-of-it", "a control character": "bell\x07-rings"}


@pytest.mark.fault(62)
def test_fault_62_odd_tokens(lab: Lab, report: Report) -> None:
    """The gateway answers 401 to all of them; its log contains the SHA-256 of the token that it received."""
    began_s = time.monotonic()
    for name, token in CARRIED.items():
        agent = lab.agent(BETA9_LOG_LEVEL="debug")
        Path(agent.environment["BETA9_TOKEN_FILE"]).write_text(f"{token}\n")
        assert agent.start().wait_exit() == 77, name
        sent = {entry["bearer_sha256"] for entry in lab.gateway.requests("keepalive")}
        assert hashlib.sha256(token.encode()).hexdigest() in sent, f"{name}: not sent unchanged"
        assert not found_in({"log": "\n".join(agent.lines)}, [token]), name
    for name, token in REFUSED.items():
        agent = lab.agent(BETA9_TOKEN_FILE="", BETA9_TOKEN=token)
        assert agent.start().wait_exit() == 78, name
        log = "\n".join(agent.lines)
        assert "BETA9_TOKEN" in log
        assert "line break" in log or "control character" in log
        assert not [part for part in token.splitlines() if part in log]
    report(
        f"sent unchanged: {', '.join(CARRIED)}; refused with exit 78: {', '.join(REFUSED)}; in no log",
        time.monotonic() - began_s,
    )


def of_processes(agent: AgentProcess) -> dict[str, str]:
    """Return what every user (cmdline) and root (environ) can read about the agent and its children."""
    outputs = {}
    for pid in [agent.pid, *children_of(agent.pid)]:
        outputs[f"cmdline of {pid}"] = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        if pid != agent.pid:
            outputs[f"environ of {pid}"] = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return outputs


def of_files(directory: Path) -> dict[str, str]:
    return {
        str(path): path.read_bytes().decode(errors="replace")
        for path in directory.rglob("*")
        if path.is_file()
    }


CRASH = """
import base64, sys, threading, urllib.parse
import agent.runtime.agent
def crash(self):
    known = self.credentials
    secrets = [known.token(), known.k3s_token(), known._text(self.settings.ssh_key, True)]
    leaks = [f(s) for s in secrets for f in (str, lambda s: base64.b64encode(s.encode()).decode(), urllib.parse.quote)]
    thread = threading.Thread(target=lambda: {}[" ".join(leaks)])
    thread.start()
    thread.join()
    raise RuntimeError("crashed with " + " ".join(leaks))
agent.runtime.agent.Agent.run = crash
from agent.cli import main
sys.exit(main(["run", "--env-file", "/dev/null"]))
"""
"""A bug whose exception contains every secret, in the main thread and in another one."""


@pytest.mark.fault(63)
def test_fault_63_secret_search(lab: Lab, report: Report) -> None:
    began_s = time.monotonic()
    agent = lab.agent(
        BETA9_LOG_LEVEL="debug", BETA9_KEEPALIVE_INTERVAL="1", BETA9_TOKEN_FILE="", BETA9_SSH_KEY_FILE=""
    )
    token = (lab.directory / agent.machine_id / "token").read_text().strip()
    key = lab.sshd.key_path.read_text()
    k3s_token = lab.k3s_token_file.read_text().strip()
    # Given as values instead of files, since that has the most ways to leak.
    agent.environment |= {"BETA9_TOKEN": token, "BETA9_SSH_KEY": key}
    secrets = [token, k3s_token, *key_parts(key), *lab.gateway.secrets()]
    assert len(secrets) > 8

    agent.start()
    agent.wait_back()
    provoke(lab, agent, token)
    outputs = of_running_agent(agent) | of_commands(agent)
    assert agent.stop() == 0
    outputs["log to the end"] = "\n".join(agent.lines)
    outputs["crash"] = crash(agent.environment)

    assert len(outputs["log at debug"]) > 1000
    assert found_in({"itself": f"a {token} b"}, [token]), "the search does not find a secret that is there"
    found = found_in(outputs, secrets)
    assert not found
    report(
        f"{len(secrets)} secrets (tokens, key, the gateway's configuration) in none of {len(outputs)} outputs",
        time.monotonic() - began_s,
    )


def of_running_agent(agent: AgentProcess) -> dict[str, str]:
    """Return everything that can be read about a running agent."""
    return {
        "log at debug": "\n".join(agent.lines),
        **{path: json.dumps(agent.get(path)[1]) for path in ("/status", "/healthz", "/readyz")},
        "/metrics": str(agent.get("/metrics")[1]),
        **of_processes(agent),
        **of_files(Path(agent.environment["BETA9_STATE_DIR"])),
    }


def of_commands(agent: AgentProcess) -> dict[str, str]:
    """Return what the commands print that a person runs beside the agent."""
    outputs = {}
    for words in (
        ("status", "--json"),
        ("status",),
        ("run", "--dry-run", "--env-file", os.devnull),
        ("doctor", "--json", "--outbound", "127.0.0.1:1"),
    ):
        ended = run_agent(agent.environment, *words)
        assert "Traceback" not in ended.stderr, ended.stderr
        outputs[" ".join(words)] = ended.stdout + ended.stderr
    return outputs


def crash(environment: dict[str, str]) -> str:
    """Run an agent that crashes with every secret in its exceptions; return its output."""
    argv = [sys.executable, "-c", CRASH]
    crashed = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert crashed.returncode == 70
    assert "crashed with" in crashed.stderr
    assert "thread_crashed" in crashed.stderr
    return crashed.stdout + crashed.stderr


def provoke(lab: Lab, agent: AgentProcess, token: str) -> None:
    """Make the agent log as much as possible: errors that repeat the token, redirects, a dead tunnel."""
    message = json.dumps({"message": f"Problem with token {token} or {quote(token)}"})
    lab.gateway.set_fault("status", route="keepalive", count=1, status=500, body=message)
    wait_for("an error that contains the token", lambda: agent.events("keepalive_failed"))
    wait_for("accepted again", lambda: agent.events("keepalive_recovered"))
    lab.gateway.set_fault(
        "redirect", route="keepalive", count=1, location=f"http://{token}@127.0.0.1:9/{token}"
    )
    wait_for("a redirect", lambda: len(agent.events("keepalive_failed")) > 1)
    lab.gateway.wipe()
    wait_for("ready again", lambda: lab.gateway.status(agent.machine_id) == "ready")
    os.kill(agent.ssh_pids()["api"], signal.SIGKILL)
    wait_for("a new tunnel", lambda: agent.status()["tunnel"]["generation"] > 1)
    agent.wait_back()
