"""Two machines of which one was made from a copy of the other's disk, outside a cloud that tells them apart."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import ExitCode
from tests.integration.agent_process import AgentProcess
from tests.integration.lab import Lab
from tests.integration.polling import wait_for
from tests.integration.sysfs import Hardware, write_hardware

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
FIRST = ("4c4c4544-0042-3510-8052-b4c04f5a3733", "3c:ec:ef:00:00:01")
COPY = ("4c4c4544-0042-3510-8052-b4c04f5a3734", "3c:ec:ef:00:00:02")


def state_of(agent: AgentProcess) -> Path:
    return Path(agent.environment["BETA9_STATE_DIR"])


def copied(lab: Lab, agent: AgentProcess) -> AgentProcess:
    """Return an agent with a copy of another's disk, and other local ports."""
    copy = lab.agent(BETA9_MACHINE_ID="")
    shutil.copytree(state_of(agent), state_of(copy), ignore=shutil.ignore_patterns("run", "lock"))
    copy.environment["BETA9_TOKEN_FILE"] = agent.environment["BETA9_TOKEN_FILE"]
    return replace(copy, machine_id=agent.machine_id)


def test_of_two_machines_with_one_id_the_second_says_so(lab: Lab) -> None:
    """Field case 10.1: the same id and the same k3s certificate, and nothing in the hardware to tell them apart."""
    first = lab.agent()
    first.environment["BETA9_MACHINE_ID"] = ""
    state_of(first).mkdir(mode=0o700)
    (state_of(first) / "machine.json").write_text(json.dumps({"machine_id": first.machine_id}))
    (state_of(first) / "machine.json").chmod(0o600)
    first.start().wait_back()
    assert first.status()["machine_id"] == first.machine_id
    second = copied(lab, first).start()
    second.wait_back()
    told = f"another machine has this machine's id {first.machine_id}"
    wait_for("it is in /status", lambda: any(told in text for text in second.status()["degraded"]))
    assert [each for each in second.events("machine_id") if told in each["text"]]
    assert not any("another machine" in text for text in first.status()["degraded"])


def test_an_address_that_a_dead_session_holds_is_no_other_machine(lab: Lab) -> None:
    """Restarted at once, the agent may find its own last session still there."""
    agent = lab.ready_agent({"contest_interval_s": 0.5})
    for _ in range(3):
        agent.stop()
        agent.start()
        agent.wait_back()
        assert not any("another machine" in text for text in agent.status()["degraded"])


@as_root
def test_a_copy_on_other_hardware_has_an_id_of_its_own(lab: Lab, tmp_path: Path) -> None:
    """The kind of field case 10.1, where the hardware tells the two apart."""
    first = on(write_hardware(tmp_path / "first", *FIRST), lab.agent(BETA9_MACHINE_ID="")).start()
    first_id = wait_for("an id", lambda: first.status().get("machine_id"))
    copy = on(write_hardware(tmp_path / "copy", *COPY), copied(lab, first)).start()
    copy_id = wait_for("an id", lambda: copy.status().get("machine_id"))
    assert copy_id != first_id
    assert any(f"a copy of another machine's, whose id is {first_id}" in text for text in notes(copy))
    copy.stop()
    copy.start()
    assert wait_for("an id", lambda: copy.status().get("machine_id")) == copy_id
    first.stop()
    first.start()
    assert wait_for("an id", lambda: first.status().get("machine_id")) == first_id


def on(sys_class: Path, agent: AgentProcess) -> AgentProcess:
    """Return the agent on a machine with this hardware."""
    return replace(agent, place=Hardware(sys_class=str(sys_class)), lines=[])


def notes(agent: AgentProcess) -> list[str]:
    return [each["text"] for each in agent.events("machine_id")]


@as_root
def test_a_copy_of_a_machine_that_was_told_to_leave_joins(lab: Lab, tmp_path: Path) -> None:
    """Field case 10.2: the first goes on to stay away."""
    first = on(write_hardware(tmp_path / "first", *FIRST), lab.agent())
    first.start().wait_back()
    assert first.command("leave").returncode == 0
    assert first.wait_exit() == ExitCode.OK
    assert (state_of(first) / "stop.json").exists()
    copy = on(write_hardware(tmp_path / "copy", *COPY), copied(lab, first))
    copy.environment["BETA9_MACHINE_ID"] = lab.machine_ids[-1]
    copy.start().wait_back()
    assert [each["why"] for each in copy.events("rejoins")] == ["another machine was told to leave"]
    first.start()
    assert first.wait_exit() == ExitCode.OK
    assert first.events("stays_away")
