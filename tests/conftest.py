"""Settings for all tests: how many examples property tests try, whether skips are allowed, and the slowest tests.

Hypothesis profiles: `quick` by default, `thorough` where CI has the time. `--forbid-skips` turns a skip into a failure,
so that CI notices when a required group did not run.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", parent=settings.get_profile("quick"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forbid-skips", action="store_true", help="treat a skipped test as failed")
    parser.addoption(
        "--slowest",
        type=Path,
        metavar="FILE",
        help="append each test's duration to FILE, and show the slowest tests in it",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--forbid-skips") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but this group is required here: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the ten slowest tests of all runs that share FILE, so that the last run shows those of the whole suite."""
    file: Path | None = config.getoption("--slowest")
    is_xdist_worker = hasattr(
        config, "workerinput"
    )  # it has a terminal reporter, too, whose output is discarded
    if file is None or is_xdist_worker:
        return
    durations_s: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                durations_s[report.nodeid] = durations_s.get(report.nodeid, 0.0) + report.duration
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as runs:
        runs.writelines(f"{seconds:.1f}\t{test}\n" for test, seconds in durations_s.items())
    lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    terminalreporter.section("the ten slowest tests so far")
    for seconds, test in sorted(lines, key=lambda line: -float(line[0]))[:10]:
        terminalreporter.write_line(f"{seconds:>8} s  {test}")
