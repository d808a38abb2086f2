"""A boot that fails says so and does not go on costing money: a second machine, whose k3s is not what was pinned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine.conftest import DISK
from tests.machine.life import INSTALL_DEADLINE_S, Life, begin
from tests.machine.site import Site

pytestmark = [pytest.mark.machine, pytest.mark.timeout(2 * INSTALL_DEADLINE_S)]


@pytest.fixture
def failing(outside: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
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


def test_a_failed_stage_is_named_on_the_console_with_its_fix_and_the_machine_is_switched_off(
    failing: Life,
) -> None:
    failing.vm.wait_off(INSTALL_DEADLINE_S)
    console = failing.vm.console()
    assert "FAILED in stage 'k3s-files'" in console
    assert "checksum" in console
    assert "fix: " in console
    assert failing.site.status(failing.machine) == "pending"
