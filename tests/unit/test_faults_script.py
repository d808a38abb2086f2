"""`make faults` reports a row as held only if it was, and every row of the fault table has a test."""

from __future__ import annotations

from xml.etree import ElementTree

from scripts.faults import TABLE, TEST, Case, Fault, Row, page, read, read_table, table
from tests import ROOT

FAULTS = read_table(TABLE.read_text(encoding="utf-8"))
ONE, TWO = Fault(1, "ssh child killed", "back in 3 s"), Fault(2, "ssh child stopped", "replaced")


def case(name: str, inside: str = "") -> Case | None:
    return read(
        ElementTree.fromstring(f'<testcase file="tests/x.py" name="{name}" time="1.5">{inside}</testcase>')
    )


RECORDED = (
    '<properties><property name="happened" value="back in 1 s"/>'
    '<property name="seconds" value="0.9"/></properties>'
)


def test_every_row_of_the_fault_table_has_a_test_and_every_such_test_a_row() -> None:
    named = {
        int(number)
        for file in (ROOT / "tests").rglob("test_*.py")
        for number in TEST.findall(file.read_text(encoding="utf-8"))
    }
    assert named == {fault.number for fault in FAULTS}


def test_the_rows_are_numbered_once_each_and_in_order() -> None:
    numbers = [fault.number for fault in FAULTS]
    assert len(numbers) >= 69
    assert numbers == sorted(set(numbers))
    assert all(fault.fault and fault.must for fault in FAULTS)


def test_a_row_is_what_its_test_recorded() -> None:
    held = case("test_fault_01_ssh_child_killed[a]", RECORDED)
    name = "tests/x.py::test_fault_01_ssh_child_killed[a]"
    assert held == Case(1, "held", "back in 1 s", 0.9, recorded=True, test=name, took_s=1.5)
    assert case("test_something_else") is None
    assert table([held], [ONE]) == [Row(1, "ssh child killed", "back in 3 s", "back in 1 s", 0.9, "held")]


def test_a_test_that_ran_in_a_group_has_its_own_name() -> None:
    grouped = case("test_fault_08_dropped@outage", RECORDED)
    assert grouped is not None
    assert grouped.test == "tests/x.py::test_fault_08_dropped"


def test_a_failure_an_error_and_a_skip_do_not_hold() -> None:
    for tag, verdict in (("failure", "FAILED"), ("error", "FAILED"), ("skipped", "skipped")):
        bad = case("test_fault_02_x", f'{RECORDED}<{tag} message="line one&#10;line two">trace</{tag}>')
        assert bad is not None
        assert bad.verdict == verdict
        assert bad.happened == f"{verdict}: line one line two"


def test_one_bad_test_among_good_ones_makes_the_row_bad() -> None:
    good = Case(1, "held", "it works", 1.0, recorded=True)
    bad = Case(1, "skipped", "skipped: no root", 0.0)
    for cases in ([good, bad], [bad, good]):
        (row,) = table(cases, [ONE])
        assert (row.happened, row.verdict) == ("skipped: no root", "skipped")


def test_a_row_without_a_result_and_a_test_without_a_row_are_missing() -> None:
    rows = table([Case(2, "held"), Case(70, "held")], [ONE, TWO])
    assert [(row.number, row.verdict) for row in rows] == [(1, "missing"), (2, "held"), (70, "missing")]
    assert rows[1].happened == "1 tests passed"


def test_the_page_is_a_table_whatever_a_cell_holds() -> None:
    text = page([Row(1, "a|b", "<3 s", "two\nlines", 1.25, "held")], "a host", "2026-01-01")
    assert "| 1 | a\\|b | &lt;3 s | two lines | 1.2 |" in text
    assert "Host: a host." in text
    assert "1 of 1 rows as expected, on 2026-01-01." in text
