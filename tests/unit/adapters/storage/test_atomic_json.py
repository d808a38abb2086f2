"""State files: a damaged or foreign file is set aside; an interrupted write leaves the old content or the new."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.storage.state_dir import StateDir
from tests.unit.adapters.storage.permissions import AS_ROOT


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
    ("content", "note"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b'{"machine_id": "1165', "is damaged"),
        (b"\xff\xfe\x00", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b'["a"]', "not a JSON object"),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', "larger than"),
    ],
)
def test_fault_44_a_damaged_file_is_set_aside_and_said(state: StateDir, content: bytes, note: str) -> None:
    path = state.path / "a.json"
    path.write_bytes(content)
    path.chmod(0o600)
    found = state.read_json("a.json")
    assert found.value is None
    assert note in str(found.note)
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
    """A limit on file size stands for the full disk: write(2) fails half-way in the same way."""
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
    """A tmpfs of 32 KiB in its own mount namespace is filled completely and then freed."""
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
    """A real process stops itself just before the rename, and the test kills it there."""
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

    os.utime(left_over, (time.time() - 7200,) * 2)  # old enough for the next start to remove it
    assert state.try_lock() is None
    assert not left_over.exists()
