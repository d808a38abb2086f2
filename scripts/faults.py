"""`make faults`: run every test of the fault table, print the table, and say whether each row held.

    python -m scripts.faults [--serial] [--write docs/reliability.md] [--durations] [PYTEST ARGUMENT…]

The rows are those of tests/faults.md. What a row shows is what its tests recorded (`happened`, `seconds`); several
tests of one row count together. The exit code is 1 where a row failed, was skipped, or has no result.

As root the tests run side by side, each worker in namespaces of its own (tests/isolation.py), with bounds that a busy
machine keeps (tests/integration/bounds.py). Figures worth printing come from one test at a time: `--serial`.
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
"""Tests wait more than they compute: two processors carry this many."""
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
    told: bool = False
    """It recorded what happened: the test that shows the row, where others show the same on a smaller scale."""
    test: str = ""
    """Its node id."""
    took_s: float = 0.0
    """How long the whole test took."""


@dataclass(frozen=True)
class Row:
    """One line of what is printed."""

    number: int
    fault: str
    must: str
    happened: str
    seconds: float | None
    verdict: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, and perhaps write."""
    parser = argparse.ArgumentParser(description="Run the fault table and print it.")
    parser.add_argument(
        "--serial", action="store_true", help="one test at a time, so that nothing else takes time"
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="also make this page of it")
    parser.add_argument(
        "--durations", action="store_true", help=f"also write {MEASURED.name}, by which tests are spread"
    )
    parser.add_argument("--slowest", metavar="FILE", help="as pytest's own (tests/conftest.py)")
    args, chosen = parser.parse_known_args(argv)
    faults = read_table(TABLE.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "faults.xml"
        options = [f"--slowest={args.slowest}"] if args.slowest else []
        cases = run(report, [*options, *(chosen or files())], is_serial=args.serial or os.geteuid() != 0)
    if chosen:  # only the rows of the chosen tests are asked for
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
    """Run the tests that bear the mark and read what they recorded."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "fault", "--tb=short"]
    if not is_serial:
        command += ["-p", "tests.isolation", "--isolate", "-n", str(WORKERS)]
    # The older family is the one that has properties on a test.
    command += ["-o", "junit_family=xunit1", f"--junitxml={report}"]
    environment = {**os.environ, SERIAL: "1"} if is_serial else None
    subprocess.run([*command, *arguments], check=False, env=environment)
    if not report.exists():
        return []
    found = (read(element) for element in ElementTree.parse(report).iter("testcase"))
    return [case for case in found if case is not None]


def files() -> list[str]:
    """Return the files that have tests of the table: importing all the others costs each worker many seconds."""
    every = sorted(TABLE.parent.rglob("test_*.py"))
    return [str(file) for file in every if TEST.search(file.read_text(encoding="utf-8"))]


def read(element: ElementTree.Element) -> Case | None:
    """One `testcase` of the JUnit report; None where its name is not that of a row."""
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
        told="happened" in recorded,
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
    """One row per fault, in the table's order, and one for each number that only a test knows; both must agree."""
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
    telling = [case for case in cases if case.told] or cases
    worst = [case for case in cases if case.verdict != "held"]
    happened = [case.happened for case in (worst or telling) if case.happened]
    return Row(
        *_of(fault),
        "; ".join(dict.fromkeys(happened)) or f"{len(cases)} tests passed",
        sum(case.seconds for case in telling),
        worst[0].verdict if worst else "held",
    )


def _of(fault: Fault) -> tuple[int, str, str]:
    return fault.number, fault.fault, fault.must


def describe_host() -> str:
    """The machine that the figures are of: they mean nothing without it."""
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
    """How many rows held."""
    held = sum(row.verdict == "held" for row in rows)
    return f"{held} of {len(rows)} rows as expected"


def show(rows: Sequence[Row], host: str, when: str) -> None:
    """Print the table."""
    told = Table(
        "row", "fault", "what must happen", "what happened", "s", title="Fault table", show_lines=False
    )
    for row in rows:
        style = "" if row.verdict == "held" else "bold red"
        told.add_row(str(row.number), row.fault, row.must, row.happened, _seconds(row), style=style)
    # Wide enough to be read where there is no terminal (a log, a pipe).
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False)
    console.print(told)
    console.print(f"{summary(rows)}\n{host}\n{when}")


def _seconds(row: Row) -> str:
    return "" if row.seconds is None else f"{row.seconds:.1f}"


def page(rows: Sequence[Row], host: str, when: str) -> str:
    """The same as a page of the documentation."""
    lines = [
        "# Reliability",
        "",
        "What the agent does when something fails. Each row is one test or more (`test_fault_NN_…`) against a real",
        "sshd, real sockets and real processes; the gateway and the Kubernetes API are the embedded ones. Times that",
        "nobody can wait for (leases of 300 s, pauses of a minute) are scaled down; each test says which.",
        "",
        "Made by `python -m scripts.faults --serial --write docs/reliability.md`, not by hand: one test at a time,",
        "since it states figures. `make faults` prints the table of a run side by side.",
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
