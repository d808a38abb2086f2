"""Two virtual machines for the whole group, booted from the real user-data.

The tests go through the life of one. The other fails on its own meanwhile: each keeps one processor busy.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.machine import standin
from tests.machine.life import Life, begin
from tests.machine.site import AGENT_IMAGE, BUILD, Site, site
from tests.machine.vm import Disk

DISK = Disk(BUILD / "machine-disk")
_REPORT: list[str] = []


def missing() -> str | None:
    """Return why no machine can be booted here, or None."""
    for program in ("qemu-system-x86_64", "qemu-img", "genisoimage"):
        if shutil.which(program) is None:
            return f"{program} is not installed: make .venv/machine"
    for file in (DISK.image, AGENT_IMAGE):
        if not file.exists():
            return f"{file.name} does not exist: make test-machine"
    return standin.missing()


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The services that a machine connects to."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="session")
def failing(outside: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """The machine whose boot fails, powered on and left alone."""
    made = begin(
        outside,
        DISK,
        tmp_path_factory.mktemp("failing"),
        BETA9_K3S_URL=outside.mirror("install.sh"),
        BETA9_ON_FAILURE="poweroff",
    )
    made.fetch.set()
    try:
        yield made
    finally:
        made.vm.end()


@pytest.fixture(scope="session")
def life(
    request: pytest.FixtureRequest, outside: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Life]:
    """The machine, powered on; the tests of test_life.py go through its life in order."""
    if any("failing" in getattr(each, "fixturenames", ()) for each in request.session.items):
        request.getfixturevalue("failing")  # powered on now, since it needs no attention until its test
    made = begin(outside, DISK, tmp_path_factory.mktemp("machine"))
    try:
        yield made
    finally:
        made.vm.end()
        _REPORT.extend(made.report)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the timeline of the boot."""
    if _REPORT:
        terminalreporter.section("the machine's boot")
        for line in _REPORT:
            terminalreporter.write_line(line)
