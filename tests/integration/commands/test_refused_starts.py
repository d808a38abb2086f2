"""First starts that the gateway's side refuses: the exit code, and a last line that says what to do."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from agent.core.lifecycle.exits import AFTERWARDS
from agent.demo.sshd.throwaway import HOST
from agent.errors import ExitCode
from tests.integration.lab import Lab

TOKEN = "swwMV_WA4C_FxN-_UY5UiRgdg2dTM1GUDLVUzO9c6fzyOs0BUJuXKLfxb-QcZkwAnlOGscu0U3WYmF1eQpcSBg=="


def last_log_line(lines: list[str]) -> dict[str, object]:
    """Return the last log line, an error that says why the agent exited."""
    ended = [json.loads(line) for line in lines if line.startswith("{")][-1]
    assert ended["level"] == "error", ended
    return dict(ended)


def refused(lab: Lab, **settings: str) -> tuple[int, str]:
    """Start an agent that must exit; return its exit code and the reason it logged."""
    agent = lab.agent(None, **settings).start()
    code = agent.wait_exit()
    ended = last_log_line(agent.lines)
    assert (ended["exit_code"], ended["next"]) == (code, AFTERWARDS[ExitCode(code)])
    assert lab.gateway.status(agent.machine_id) == "pending", "the machine was registered"
    return code, str(ended.get("why") or ended.get("text"))


def test_a_wrong_token_ends_77_at_once(lab: Lab) -> None:
    code, reason = refused(lab, BETA9_TOKEN_FILE="", BETA9_TOKEN=TOKEN)
    assert code == 77
    assert "401 Unauthorized" in reason
    assert "BETA9_TOKEN; 'beta9 machine create --pool POOL' prints a new one" in reason
    assert TOKEN not in reason


def test_an_unknown_host_key_ends_78_and_nothing_is_sent(lab: Lab, tmp_path: Path) -> None:
    stranger = tmp_path / "known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    key = (tmp_path / "other.pub").read_text().split()[:2]
    stranger.write_text(f"[{HOST}]:{lab.sshd.port} {' '.join(key)}\n")
    code, reason = refused(lab, BETA9_SSH_KNOWN_HOSTS_FILE=str(stranger))
    assert code == 78
    assert "host key" in reason
    assert "BETA9_SSH_KNOWN_HOSTS" in reason


def test_a_key_that_sshd_does_not_accept_ends_77(lab: Lab) -> None:
    code, reason = refused(lab, BETA9_SSH_KEY_FILE=str(lab.sshd.make_key("stranger")))
    assert code == 77
    assert "Permission denied" in reason
    assert "authorized_keys" in reason


def test_a_pool_that_the_gateway_does_not_have_ends_78(lab: Lab) -> None:
    code, reason = refused(lab, BETA9_POOL_NAME="no-such-pool")
    assert code == 78
    assert "Invalid pool name" in reason
    assert "BETA9_POOL_NAME" in reason
