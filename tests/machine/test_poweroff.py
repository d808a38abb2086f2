"""A boot that cannot succeed is reported and stops its own charges: the machine's k3s does not match its checksum.

The machine is powered on together with that of test_life.py (see conftest.py), and has failed by the time of its test.
"""

from __future__ import annotations

import pytest

from tests.machine.life import INSTALL_DEADLINE_S, Life

pytestmark = [pytest.mark.machine, pytest.mark.timeout(2 * INSTALL_DEADLINE_S)]


def test_a_failed_stage_is_shown_on_the_console_with_its_fix_and_the_machine_powers_off(
    failing: Life,
) -> None:
    failing.vm.wait_off(INSTALL_DEADLINE_S)
    console = failing.vm.console()
    assert "FAILED in stage 'k3s-files'" in console
    assert "checksum" in console
    assert "fix: " in console
    assert failing.site.status(failing.machine) == "pending"
