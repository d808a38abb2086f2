"""tests/field_cases.md names tests that exist, and every case of every kind."""

from __future__ import annotations

import ast
import re

from tests import ROOT

TABLE = ROOT / "tests" / "field_cases.md"
KINDS = {1: 4, 2: 8, 3: 3, 4: 6, 5: 9, 6: 8, 7: 2, 8: 4, 9: 2, 10: 2, 11: 4, 12: 4, 13: 2, 14: 2, 15: 1}
"""How many cases each kind has."""
OTHERS = {*(f"A{n}" for n in range(1, 9)), *(f"C{n}" for n in range(1, 6)), "scratch"}


def rows() -> list[tuple[str, str, str]]:
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(row[0], row[1], row[2]) for row in cells if row[0] != "case"]


def numbers(cell: str) -> set[str]:
    """Return the cases of a cell such as `2.1, 2.4` or `4.1-4.3`."""
    found = set()
    for part in cell.split(", "):
        first, _, last = part.partition("-")
        if last:
            kind, low = first.split(".")
            found |= {f"{kind}.{n}" for n in range(int(low), int(last.split(".")[1]) + 1)}
        else:
            found.add(first)
    return found


def test_every_case_has_a_row() -> None:
    listed = set().union(*(numbers(case) for case, _, _ in rows()))
    assert listed == {f"{kind}.{n}" for kind, last in KINDS.items() for n in range(1, last + 1)} | OTHERS


def test_every_named_test_exists() -> None:
    missing = []
    for _, _, tests in rows():
        for name in re.split(r", +", tests):
            path, _, function = name.partition("::")
            file = ROOT / path
            if not file.exists() or (
                function and function not in functions(file.read_text(encoding="utf-8"))
            ):
                missing.append(name)
    assert missing == []


def functions(source: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
