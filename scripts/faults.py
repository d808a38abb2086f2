"""`make faults`: runs every test of the fault table, and prints the table with each row's result.

    python -m scripts.faults [--serial] [--write docs/reliability.md] [--durations] [PYTEST ARGUMENT…]

The rows are those of tests/faults.md. Each row shows what its tests recorded (`happened`, `seconds`); the tests of one
row are combined. The exit code is 1 if a row failed, was skipped, or has no result.

As root the tests run in parallel, each worker in its own namespaces (tests/isolation.py), with limits that a busy
machine can meet (tests/integration/bounds.py). Figures for publication come from one test at a time: `--serial`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

from tests.integration.bounds import SERIAL
from tests.isolation import MEASURED

TABLE = Path(__file__).parents[1] / "tests" / "faults.md"
WORKERS = 4
"""Two cores can run this many, because tests mostly wait."""
_ROW = re.compile(r"\| (?P<number>\d+) \| (?P<fault>.+?) \| (?P<must>.+) \|")
TEST = re.compile(r"(?m)^def test_fault_(\d+)_")
_NAME = re.compile(r"test_fault_(\d+)_([a-z0-9_]+)")


@dataclass(frozen=True)
class Fault:
    """One row of the fault table."""

    number: int
    fault: str
    must: str
    """What must happen."""


@dataclass(frozen=True)
class Case:
    """One test's result."""

    row: int
    verdict: str
    """`held`, `FAILED` or `skipped`."""
    happened: str = ""
    seconds: float = 0.0
    recorded: bool = False
    """Whether it recorded what happened; other tests of the row show the same on a smaller scale."""
    test: str = ""
    """Its pytest node id."""
    took_s: float = 0.0
    """Duration of the whole test."""


@dataclass(frozen=True)
class Row:
    """One printed row."""

    number: int
    fault: str
    must: str
    happened: str
    seconds: float | None
    verdict: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tests, print the table, and write what the options ask for."""
    parser = argparse.ArgumentParser(description="Run the fault table and print it.")
    parser.add_argument(
        "--serial", action="store_true", help="run one test at a time, so that nothing distorts the figures"
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="also write the results to this page")
    parser.add_argument(
        "--durations",
        action="store_true",
        help=f"also write {MEASURED.name}, which balances the workers",
    )
    parser.add_argument("--slowest", metavar="FILE", help="as for pytest (tests/conftest.py)")
    args, pytest_args = parser.parse_known_args(argv)
    faults = read_table(TABLE.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "faults.xml"
        options = [f"--slowest={args.slowest}"] if args.slowest else []
        cases = run(report, [*options, *(pytest_args or files())], is_serial=args.serial or os.geteuid() != 0)
    if pytest_args:  # report only the rows of the selected tests
        faults = [fault for fault in faults if any(case.row == fault.number for case in cases)]
    rows = table(cases, faults)
    host, when = describe_host(), datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    show(rows, host, when)
    if args.write:
        args.write.write_text(page(rows, host, when), encoding="utf-8")
    if args.durations:
        measured = {case.test: round(case.took_s, 1) for case in sorted(cases, key=lambda case: case.test)}
        MEASURED.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0 if rows and all(row.verdict == "held" for row in rows) else 1


def read_table(text: str) -> list[Fault]:
    """Return the rows of the fault table, in order."""
    found = (_ROW.fullmatch(line) for line in text.splitlines())
    return [Fault(int(row["number"]), row["fault"], row["must"]) for row in found if row]


def run(report: Path, arguments: Sequence[str], *, is_serial: bool) -> list[Case]:
    """Run the tests marked `fault` and return what they recorded."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "fault", "--tb=short"]
    if not is_serial:
        command += ["-p", "tests.isolation", "--isolate", "-n", str(WORKERS)]
    # Only the older JUnit family keeps properties on a test.
    command += ["-o", "junit_family=xunit1", f"--junitxml={report}"]
    environment = {**os.environ, SERIAL: "1"} if is_serial else None
    subprocess.run([*command, *arguments], check=False, env=environment)
    if not report.exists():
        return []
    found = (read(element) for element in ElementTree.parse(report).iter("testcase"))
    return [case for case in found if case is not None]


def files() -> list[str]:
    """Return the files with fault tests, because importing all others would cost each worker many seconds."""
    every = sorted(TABLE.parent.rglob("test_*.py"))
    return [str(file) for file in every if TEST.search(file.read_text(encoding="utf-8"))]


def read(element: ElementTree.Element) -> Case | None:
    """Return one `testcase` of the JUnit report, None if its name belongs to no row."""
    match = _NAME.match(element.get("name", ""))
    if match is None:
        return None
    recorded = {each.get("name"): each.get("value", "") for each in element.iter("property")}
    verdict, happened = _verdict(element)
    took_s = float(element.get("time") or 0)
    return Case(
        row=int(match[1]),
        verdict=verdict,
        happened=happened or recorded.get("happened", ""),
        seconds=float(recorded.get("seconds") or took_s),
        recorded="happened" in recorded,
        test=f"{element.get('file')}::{element.get('name', '').partition('@')[0]}",  # xdist adds @GROUP
        took_s=took_s,
    )


def _verdict(element: ElementTree.Element) -> tuple[str, str]:
    for tag, verdict in (("failure", "FAILED"), ("error", "FAILED"), ("skipped", "skipped")):
        child = element.find(tag)
        if child is not None:
            first = (child.get("message") or child.text or "").strip().splitlines()
            return verdict, f"{verdict}: {' '.join(first)[:200]}"
    return "held", ""


def table(cases: Iterable[Case], faults: Iterable[Fault]) -> list[Row]:
    """Return one row per fault, in the table's order, then one for each number that only tests have."""
    by_row: dict[int, list[Case]] = {}
    for case in cases:
        by_row.setdefault(case.row, []).append(case)
    rows = [_row(fault, by_row.pop(fault.number, [])) for fault in faults]
    return rows + [
        Row(number, "", "", f"{TABLE.name} has no such row", None, "missing") for number in sorted(by_row)
    ]


def _row(fault: Fault, cases: list[Case]) -> Row:
    if not cases:
        return Row(*_of(fault), "no test gave a result", None, "missing")
    main = [case for case in cases if case.recorded] or cases
    failed = [case for case in cases if case.verdict != "held"]
    happened = [case.happened for case in (failed or main) if case.happened]
    return Row(
        *_of(fault),
        "; ".join(dict.fromkeys(happened)) or f"{len(cases)} tests passed",
        sum(case.seconds for case in main),
        failed[0].verdict if failed else "held",
    )


def _of(fault: Fault) -> tuple[int, str, str]:
    return fault.number, fault.fault, fault.must


def describe_host() -> str:
    """Describe the machine, without which the figures mean nothing."""
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False)
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    release = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return (
        f"{release}, Linux {platform.release()}, {os.cpu_count()} CPUs ({_cpu_model()}), {memory_gib:.0f} GiB, "
        f"Python {platform.python_version()}, {ssh.stderr.split(',')[0].strip()}"
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def summary(rows: Sequence[Row]) -> str:
    """Say how many rows held."""
    held = sum(row.verdict == "held" for row in rows)
    return f"{held} of {len(rows)} rows as expected"


def show(rows: Sequence[Row], host: str, when: str) -> None:
    """Print the table."""
    grid = Table(
        "row", "fault", "what must happen", "what happened", "s", title="Fault table", show_lines=False
    )
    for row in rows:
        style = "" if row.verdict == "held" else "bold red"
        grid.add_row(str(row.number), row.fault, row.must, row.happened, _seconds(row), style=style)
    # Without a terminal (a log, a pipe) rich would assume 80 columns, too narrow to read.
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False)
    console.print(grid)
    console.print(f"{summary(rows)}\n{host}\n{when}")


def _seconds(row: Row) -> str:
    return "" if row.seconds is None else f"{row.seconds:.1f}"


def page(rows: Sequence[Row], host: str, when: str) -> str:
    """Return the table as a page of the documentation."""
    lines = [
        "# Reliability",
        "",
        "What the agent does when something fails. Each row is one or more tests (`test_fault_NN_…`) against a real",
        "sshd, real sockets and real processes; the gateway and the Kubernetes API are the embedded ones. Long times",
        "(leases of 300 s, pauses of a minute) are scaled down; each test says which.",
        "",
        "Generated by `python -m scripts.faults --serial --write docs/reliability.md`; do not edit. To get comparable",
        "figures, the tests run one at a time; `make faults` runs them in parallel and prints the same table.",
        "",
        f"{summary(rows)}, on {when}.",
        "",
        f"Host: {host}.",
        "",
        "| row | fault | what must happen | what happened | seconds |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (str(row.number), row.fault, row.must, row.happened, _seconds(row))
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main())
