"""The agent reports the result of the machine's bootstrap: when it starts, and after each later bootstrap run."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.agent_process import AgentProcess
from tests.integration.lab import Lab
from tests.integration.polling import wait_for

OK = {
    "version": 1,
    "started_at": "2026-11-25T20:00:00Z",
    "finished_at": "2026-11-25T20:01:00Z",
    "result": "ok",
    "stages": [{"name": "k3s", "started_s": 0, "seconds": 60, "result": "ok", "needs": []}],
}
FAILED = {**OK, "result": "failed", "failed_stage": "k3s", "fix": "free some space"}
TEXT = "the bootstrap failed in stage k3s: free some space"


def write_record(agent: AgentProcess, content: object) -> None:
    directory = Path(agent.environment["BETA9_STATE_DIR"])
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / "new").write_text(json.dumps(content))
    (directory / "new").replace(directory / "bootstrap.json")


def test_one_line_at_the_start_and_a_later_failure_shows_until_it_is_mended(lab: Lab) -> None:
    agent = lab.agent()
    write_record(agent, OK)
    agent.start().wait_back()
    [line] = agent.events("bootstrap")
    assert (line["level"], line["result"], line["seconds"], line["stages"]) == (
        "info",
        "ok",
        60.0,
        "k3s 60.0",
    )
    assert TEXT not in agent.status()["degraded"]
    write_record(agent, FAILED)
    wait_for("degraded", lambda: TEXT in agent.status()["degraded"])
    assert agent.is_back(), "a failed bootstrap must not affect a running agent"
    write_record(agent, OK)
    wait_for("no longer degraded", lambda: TEXT not in agent.status()["degraded"])


def test_a_failure_before_the_start_is_a_warning_and_a_damaged_record_is_none(lab: Lab) -> None:
    agent = lab.agent()
    write_record(agent, FAILED)
    agent.start()
    wait_for("degraded", lambda: TEXT in agent.status().get("degraded", ()))
    [line] = agent.events("bootstrap")
    assert (line["level"], line["text"]) == ("warning", TEXT)
    write_record(agent, ["no record"])
    wait_for("no longer degraded", lambda: TEXT not in agent.status()["degraded"])
