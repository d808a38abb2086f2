"""The state directory: whatever is found in it, the agent goes on; whatever happens, the old state or the new."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.storage.state_dir import SUN_PATH_BYTES, StateDir, StopMarker
from agent.errors import SettingsError

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.open(tmp_path / "deep" / "state")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


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


def test_what_is_written_is_read_back_and_replaced(state: StateDir) -> None:
    state.write_json("a.json", {"n": 1, "text": "ü"})
    state.write_json("a.json", {"n": 2})
    assert state.read_json("a.json").value == {"n": 2}
    assert [p.name for p in state.path.iterdir()] == ["a.json"]


def test_nothing_there_is_no_trouble(state: StateDir) -> None:
    found = state.read_json("a.json")
    assert (found.value, found.note) == (None, None)


@pytest.mark.fault(44)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b'{"machine_id": "1165', "is damaged"),
        (b"\xff\xfe\x00", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b'["a"]', "no JSON object"),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', "larger than"),
    ],
)
def test_fault_44_a_damaged_file_is_set_aside_and_said(state: StateDir, content: bytes, said: str) -> None:
    path = state.path / "a.json"
    path.write_bytes(content)
    path.chmod(0o600)
    found = state.read_json("a.json")
    assert found.value is None
    assert said in str(found.note)
    assert "set aside as a.json.bad" in str(found.note)
    assert (state.path / "a.json.bad").read_bytes() == content
    assert not path.exists()
    assert state.read_json("a.json").note is None


@pytest.mark.fault(44)
def test_fault_44_a_file_others_can_get_at_is_set_aside(state: StateDir) -> None:
    state.write_json("a.json", {"a": 1})
    (state.path / "a.json").chmod(0o666)
    assert "mode 0666" in str(state.read_json("a.json").note)


@pytest.mark.fault(44)
@pytest.mark.skipif(not AS_ROOT, reason="only root can give a file away")
def test_fault_44_a_file_of_another_owner_is_set_aside(state: StateDir) -> None:
    state.write_json("a.json", {"a": 1})
    os.chown(state.path / "a.json", 65534, 65534)
    assert "belongs to uid 65534" in str(state.read_json("a.json").note)


@pytest.mark.fault(44)
def test_fault_44_links_sockets_and_directories_are_no_state(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"a": 1}')
    (state.path / "link.json").symlink_to(tmp_path / "elsewhere")
    (state.path / "directory.json").mkdir()
    os.mkfifo(state.path / "fifo.json", 0o600)
    for name in ("link.json", "directory.json", "fifo.json"):
        found = state.read_json(name)
        assert found.value is None
        assert "set aside" in str(found.note)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_no_content_at_all_crashes_the_reader(state: StateDir, content: bytes) -> None:
    path = state.path / "fuzz.json"
    path.write_bytes(content)
    path.chmod(0o600)
    found = state.read_json("fuzz.json")
    assert (found.value is None) == (found.note is not None)


@pytest.mark.fault(43)
def test_fault_43_a_full_disk_fails_the_write_and_keeps_the_old_state(state: StateDir) -> None:
    """A limit on file size stands for the full disk: write(2) fails half-way in just the same way."""
    state.write_json("a.json", {"n": "old"})
    code = (
        "import resource, signal, sys\n"
        "from agent.adapters.storage.state_dir import StateDir\n"
        "from agent.errors import TransientError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try: StateDir.open(sys.argv[1]).write_json('a.json', {'n': 'x' * 100})\n"
        "except TransientError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, state.path], capture_output=True, text=True, check=True
    )
    assert "not written" in done.stdout
    assert state.read_json("a.json").value == {"n": "old"}
    assert [p.name for p in state.path.iterdir()] == ["a.json"]


@pytest.mark.fault(43)
@pytest.mark.skipif(not AS_ROOT, reason="only root can mount a small disk")
def test_fault_43_a_real_disk_without_space(tmp_path: Path) -> None:
    """A tmpfs of 32 KiB in a mount namespace of its own, filled to the brim, and then freed."""
    code = (
        "import pathlib, sys\n"
        "from agent.adapters.storage.state_dir import StateDir\n"
        "from agent.errors import TransientError\n"
        "path = pathlib.Path(sys.argv[1]); state = StateDir.open(path)\n"
        "state.write_json('a.json', {'n': 'old'})\n"
        "filler = (path / 'filler').open('wb', buffering=0)\n"
        "try:\n  while True: filler.write(bytes(4096))\n"
        "except OSError: pass\n"
        "try: state.write_json('a.json', {'n': 'new'})\n"
        "except TransientError as error: print(error)\n"
        "print(state.read_json('a.json').value, state.try_lock())\n"
        "one, other = state.machine_id(), state.machine_id(); print(one.note, one == other)\n"
        "(path / 'filler').unlink(); filler.close()\n"
        "state.write_json('a.json', {'n': 'new'}); print(state.read_json('a.json').value)\n"
    )
    script = 'mount -t tmpfs -o size=32k none "$0" && exec "$1" -c "$2" "$0"'
    command = ["unshare", "--mount", "sh", "-c", script, str(tmp_path), sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    refused, kept, identity, healed = done.stdout.splitlines()
    assert "No space left on device" in refused
    assert kept == "{'n': 'old'} None"
    assert "will not survive a restart" in identity
    assert identity.endswith("True")
    assert healed == "{'n': 'new'}"


@pytest.mark.fault(45)
def test_fault_45_a_crash_between_write_and_rename_leaves_the_old_state(state: StateDir) -> None:
    """A real process is killed there: it stops itself before the rename, and the test kills it."""
    state.write_json("a.json", {"n": "old"})
    code = (
        "import os, pathlib, signal, sys\n"
        "from agent.adapters.storage.state_dir import StateDir\n"
        "pathlib.Path.replace = lambda *a: os.kill(os.getpid(), signal.SIGSTOP)\n"
        "StateDir.open(sys.argv[1]).write_json('a.json', {'n': 'new'})\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, state.path])
    os.waitid(os.P_PID, writer.pid, os.WSTOPPED)
    (left_over,) = state.path.glob(".*.tmp")
    assert json.loads(left_over.read_text()) == {"n": "new"}
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert state.read_json("a.json").value == {"n": "old"}

    os.utime(left_over, (time.time() - 7200,) * 2)  # what was left behind goes with the next start
    assert state.try_lock() is None
    assert not left_over.exists()


def test_the_machine_id_is_made_once_and_kept(state: StateDir) -> None:
    first = state.machine_id(random_bytes=lambda n: b"\x11\x65\xa9\xb6"[:n])
    assert (first.machine_id, first.note) == ("1165a9b6", None)
    assert StateDir.open(state.path).machine_id().machine_id == "1165a9b6"


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
    state.clear_stop()
    state.clear_stop()
    assert state.read_stop() is None


def test_a_stop_marker_nobody_understands_is_set_aside(state: StateDir) -> None:
    (state.path / "stop.json").write_text("{")
    (state.path / "stop.json").chmod(0o600)
    assert state.read_stop() is None
    assert (state.path / "stop.json.bad").exists()


def test_sockets_live_in_the_state_directory(state: StateDir) -> None:
    if len(str(state.path)) < 60:
        assert state.run_dir() == state.path / "run"
    assert mode(state.run_dir()) == 0o700


def test_sockets_of_a_deep_state_directory_have_a_path_short_enough(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path / ("d" * 100))
    directory = state.run_dir()
    try:
        assert directory == state.run_dir()
        assert mode(directory) == 0o700
        assert len(str(directory)) + 1 + 40 < SUN_PATH_BYTES
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(directory / ("s" * 39)))
        (directory / ("s" * 39)).unlink()
    finally:
        directory.rmdir()


def test_two_state_directories_never_share_sockets(tmp_path: Path) -> None:
    directories = [StateDir.open(tmp_path / (name * 100)).run_dir() for name in "ab"]
    try:
        assert len(set(directories)) == 2
    finally:
        for directory in directories:
            directory.rmdir()
