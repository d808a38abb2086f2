"""A boot that cannot succeed says so and does not go on costing money: a machine whose k3s is not what was pinned.

It is switched on together with the machine of test_life.py (conftest.py), and has failed by itself when its turn comes.
"""

from __future__ import annotations

import pytest

from tests.machine.life import INSTALL_DEADLINE_S, Life

pytestmark = [pytest.mark.machine, pytest.mark.timeout(2 * INSTALL_DEADLINE_S)]


def test_a_failed_stage_is_named_on_the_console_with_its_fix_and_the_machine_is_switched_off(
    failing: Life,
) -> None:
    failing.vm.wait_off(INSTALL_DEADLINE_S)
    console = failing.vm.console()
    assert "FAILED in stage 'k3s-files'" in console
    assert "checksum" in console
    assert "fix: " in console
    assert failing.site.status(failing.machine) == "pending"
