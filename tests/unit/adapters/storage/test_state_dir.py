"""The state directory: its permissions, its lock, the machine's id and the stop marker."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.storage.state_dir import Identity, StateDir, StopMarker
from agent.core.host.hardware import Hardware
from agent.errors import SettingsError
from tests.unit.adapters.storage.permissions import AS_ROOT, mode


def test_the_directory_and_its_files_are_for_us_alone(state: StateDir) -> None:
    state.write_json("a.json", {"b": 1})
    assert mode(state.path) == 0o700
    assert mode(state.path / "a.json") == 0o600


def test_a_directory_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    StateDir.open(tmp_path)
    assert mode(tmp_path) == 0o700


def test_a_directory_that_can_never_work_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SettingsError, match="BETA9_STATE_DIR"):
            StateDir.open(path)


@pytest.mark.skipif(not AS_ROOT, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(SettingsError, match="belongs to uid 65534"):
        StateDir.open(tmp_path)


def test_the_machine_id_is_made_once_and_kept(state: StateDir) -> None:
    first = state.machine_id(random_bytes=lambda n: b"\x11\x65\xa9\xb6"[:n])
    assert (first.machine_id, first.note) == ("1165a9b6", None)
    assert StateDir.open(state.path).machine_id().machine_id == "1165a9b6"


ONE = Hardware("4c4c4544-0042-3510-8052-b4c04f5a3733", frozenset({"3c:ec:ef:00:00:01"}))
TWO = Hardware("4c4c4544-0042-3510-8052-b4c04f5a3734", frozenset({"3c:ec:ef:00:00:02"}))


def test_a_copied_disk_s_id_stays_with_the_machine_that_made_it(state: StateDir) -> None:
    """The kind of field case 10.1."""
    first = state.machine_id(ONE, lambda n: b"\x11\x65\xa9\xb6"[:n])
    assert StateDir.open(state.path).machine_id(ONE) == first
    assert StateDir.open(state.path).machine_id().machine_id == "1165a9b6", "unknown hardware says nothing"
    copy = StateDir.open(state.path).machine_id(TWO, bytes)
    assert copy.machine_id == "00000000"
    assert "a copy of another machine's, whose id is 1165a9b6" in str(copy.note)
    assert StateDir.open(state.path).machine_id(TWO) == Identity("00000000")


def test_an_id_of_an_earlier_version_belongs_to_the_machine_that_has_it(state: StateDir) -> None:
    state.write_json("machine.json", {"machine_id": "1165a9b6"})
    assert StateDir.open(state.path).machine_id(ONE) == Identity("1165a9b6")
    assert StateDir.open(state.path).machine_id(TWO).machine_id != "1165a9b6"


def test_a_machine_whose_card_is_exchanged_stays_the_same(state: StateDir) -> None:
    card = replace(ONE, macs=TWO.macs)
    for hardware in (ONE, card, replace(card, uuid="")):
        assert StateDir.open(state.path).machine_id(hardware, bytes) == Identity("00000000")


def test_a_damaged_identity_is_replaced_and_said(state: StateDir) -> None:
    for bad in ('{"machine_id": 7}', '{"machine_id": "zz"}', "{", '{"other": 1}'):
        (state.path / "machine.json").write_text(bad)
        (state.path / "machine.json").chmod(0o600)
        identity = StateDir.open(state.path).machine_id(random_bytes=bytes)
        assert identity.machine_id == "00000000"
        assert "new machine id 00000000" in str(identity.note)
        assert StateDir.open(state.path).machine_id().note is None


@pytest.mark.fault(49)
def test_fault_49_a_second_agent_learns_the_first_s_pid(state: StateDir) -> None:
    assert state.try_lock() is None
    assert state.try_lock() is None
    code = "import sys; from agent.adapters.storage.state_dir import StateDir; print(StateDir(sys.argv[1]).try_lock())"
    command = [
        sys.executable,
        "-c",
        code.replace("sys.argv[1]", f"__import__('pathlib').Path({str(state.path)!r})"),
    ]
    assert int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) == os.getpid()
    state.unlock()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "None\n"


@pytest.mark.fault(40)
def test_fault_40_the_lock_of_a_killed_agent_is_free(state: StateDir) -> None:
    code = (
        "import sys, time; from agent.adapters.storage.state_dir import StateDir\n"
        "StateDir.open(sys.argv[1]).try_lock(); print('locked', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, state.path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    assert state.try_lock() == holder.pid
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert state.try_lock() is None


def test_the_stop_marker_is_there_until_it_is_cleared(state: StateDir) -> None:
    assert state.read_stop() is None
    state.write_stop("terminate notice", "i-0abc", wall_s=1000.0)
    assert StateDir.open(state.path).read_stop() == StopMarker("terminate notice", "i-0abc", 1000.0)
    state.write_stop("told to leave", "", 1.0, ONE)
    assert state.read_stop() == StopMarker("told to leave", "", 1.0, ONE)
    state.clear_stop()
    state.clear_stop()
    assert state.read_stop() is None


def test_a_stop_marker_nobody_understands_is_set_aside(state: StateDir) -> None:
    (state.path / "stop.json").write_text("{")
    (state.path / "stop.json").chmod(0o600)
    assert state.read_stop() is None
    assert (state.path / "stop.json.bad").exists()


def test_a_stop_marker_is_kept_where_the_state_directory_was_removed(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path / "state")
    state.path.rmdir()
    state.write_stop("told to leave", "", 0.0)
    assert state.path.stat().st_mode & 0o777 == 0o700
    marker = state.read_stop()
    assert marker is not None
    assert marker.reason == "told to leave"
