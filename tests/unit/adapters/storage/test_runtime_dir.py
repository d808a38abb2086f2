"""The directory for sockets: private, and with a path short enough for a socket address."""

from __future__ import annotations

import socket
from pathlib import Path

from agent.adapters.storage.state_dir import SUN_PATH_BYTES, StateDir
from tests.unit.adapters.storage.permissions import mode


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
