"""Two machines for the whole group, booted from the real user-data.

One is looked at, rebooted and taken back. The other fails meanwhile by itself: each keeps one processor busy.
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
_TOLD: list[str] = []


def missing() -> str | None:
    """Why no machine can be booted here, or None."""
    for program in ("qemu-system-x86_64", "qemu-img", "genisoimage"):
        if shutil.which(program) is None:
            return f"{program} is not installed: make .venv/machine"
    for made in (DISK.image, AGENT_IMAGE):
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
def failing(outside: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """The machine whose boot fails, switched on and left alone."""
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
    """The machine, switched on; the tests of test_life.py go through its life in their order."""
    if any("failing" in getattr(each, "fixturenames", ()) for each in request.session.items):
        request.getfixturevalue("failing")  # now: it needs nobody until its test
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
