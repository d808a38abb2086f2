"""Cases for the tests of the doctor, and the findings of checks on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from agent.doctor.case import Case
from agent.doctor.check import Check, Finding
from agent.doctor.runner import run_checks
from agent.settings import examine

Make = Callable[..., Case]


def case_maker(tmp_path: Path) -> Iterator[Make]:
    """Yield a function that makes cases from settings; afterwards check that they left nothing behind."""
    cases: list[Case] = []

    def make(**environ: str) -> Case:
        base = {
            "BETA9_STATUS_ADDR": "127.0.0.1:1",
            "BETA9_STATE_DIR": str(tmp_path),
            "BETA9_INTERRUPTION": "none",
        }
        settings, problems = examine({}, base | environ, directory=tmp_path, etc=tmp_path)
        cases.append(Case(settings, problems, "127.0.0.1:1"))
        return cases[-1]

    yield make
    for case in cases:
        case.close()
        assert not case.directory.exists()


def outcomes(checks: Sequence[Check], case: Case, limit_s: float = 30) -> dict[str, Finding]:
    """Run the checks on the case; return their findings by name."""
    return {result.name: result.finding for result in run_checks({"test": checks}, case, limit_s)}
