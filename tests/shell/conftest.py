"""Package repositories, created once, and a fresh copy of the machine for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.shell import nvidia_packages
from tests.shell.throwaway import Throwaway, throwaway


@dataclass(frozen=True)
class Repositories:
    directory: Path
    fingerprint: str

    @property
    def settings(self) -> dict[str, str]:
        """Settings of a site with mirrors on disk."""
        return {
            "BETA9_NVIDIA_REPOSITORY": "file:///repository/nvidia",
            "BETA9_NVIDIA_KEY_FINGERPRINT": self.fingerprint,
            "BETA9_TOOLKIT_REPOSITORY": "file:///repository/toolkit",
            "BETA9_TOOLKIT_KEY_URL": "file:///repository/toolkit/gpgkey",
            "BETA9_TOOLKIT_KEY_FINGERPRINT": self.fingerprint,
        }


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Repositories:
    directory = tmp_path_factory.mktemp("nvidia") / "repositories"
    key = nvidia_packages.make(directory)
    return Repositories(directory, key.fingerprint)


@pytest.fixture
def copy_of_machine(tmp_path: Path, repositories: Repositories) -> Iterator[Callable[[str], Throwaway]]:
    """A function that returns a copy for a release, such as copy_of_machine("ubuntu-24.04")."""
    with ExitStack() as stack:
        yield lambda release: stack.enter_context(throwaway(tmp_path, repositories.directory, release))
