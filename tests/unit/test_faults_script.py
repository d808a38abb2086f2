"""`make faults` must not say that a row held when it did not."""

from __future__ import annotations

from xml.etree import ElementTree

from scripts.faults import ROWS, Case, Row, page, read, table


def case(name: str, inside: str = "") -> Case | None:
    return read(ElementTree.fromstring(f'<testcase name="{name}" time="1.5">{inside}</testcase>'))


RECORDED = (
    '<properties><property name="expected" value="back in 3 s"/><property name="happened" value="back in 1 s"/>'
    '<property name="seconds" value="0.9"/></properties>'
)


def test_every_row_of_the_table_is_promised() -> None:
    assert sorted(ROWS) == list(range(1, 69))


def test_a_row_is_what_its_test_recorded() -> None:
    held = case("test_fault_01_ssh_child_killed[a]", RECORDED)
    assert held == Case(1, "ssh child killed", "held", "back in 3 s", "back in 1 s", 0.9)
    assert case("test_something_else") is None


def test_a_failure_an_error_and_a_skip_do_not_hold() -> None:
    for tag, verdict in (("failure", "FAILED"), ("error", "FAILED"), ("skipped", "skipped")):
        got = case("test_fault_02_x", f'{RECORDED}<{tag} message="line one&#10;line two">trace</{tag}>')
        assert got is not None
        assert got.verdict == verdict
        assert got.happened == f"{verdict}: line one line two"


def test_one_bad_test_among_good_ones_makes_the_row_bad() -> None:
    good = Case(3, "a", "held", "it works", "it works", 1.0)
    bad = Case(3, "b", "skipped", "", "skipped: no root", 0.0)
    for cases in ([good, bad], [bad, good]):
        (row,) = table(cases, wanted=())
        assert (row.fault, row.expected, row.happened, row.verdict) == (
            "a",
            "it works",
            "skipped: no root",
            "skipped",
        )


def test_a_row_without_a_result_is_missing_and_rows_are_in_order() -> None:
    rows = table([Case(9, "x", "held"), Case(70, "extra", "held")], wanted=(10, 9))
    assert [(row.number, row.verdict) for row in rows] == [(9, "held"), (10, "missing"), (70, "held")]
    assert rows[0].happened == "1 tests passed"


def test_the_page_is_a_table_whatever_a_cell_holds() -> None:
    text = page([Row(1, "a|b", "<3 s", "two\nlines", 1.25, "held")], "a host", "2026-01-01")
    assert "| 1 | a\\|b | &lt;3 s | two lines | 1.2 |" in text
    assert "Host: a host." in text
    assert "1 of 1 rows as expected, on 2026-01-01." in text
