"""One machine for the whole group: booted once from the real user-data, then looked at, rebooted and taken back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.machine import standin
from tests.machine.life import Life, begin
from tests.machine.site import BUILD, Site, site
from tests.machine.vm import Disk

DISK = Disk(BUILD / "machine-disk")
_TOLD: list[str] = []


def missing() -> str | None:
    """Why no machine can be booted here, or None."""
    for program in ("qemu-system-x86_64", "qemu-img", "genisoimage"):
        if shutil.which(program) is None:
            return f"{program} is not installed: make .venv/machine"
    for made in (DISK.image, BUILD / "machine-base.tar", BUILD / "machine-wheels"):
        if not made.exists():
            return f"{made.name} is not there: make test-machine"
    return standin.missing()


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The services that a machine dials."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    with site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="session")
def life(outside: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """The machine, switched on; the tests of test_life.py go through its life in their order."""
    made = begin(outside, DISK, tmp_path_factory.mktemp("machine"))
    try:
        yield made
    finally:
        made.vm.end()
        _TOLD.extend(made.report)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the boot's timeline."""
    if _TOLD:
        terminalreporter.section("the machine's boot")
        for line in _TOLD:
            terminalreporter.write_line(line)
