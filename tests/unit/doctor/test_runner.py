"""How the doctor runs its checks: in parallel, in the order of their dependencies, each with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.commands import doctor
from agent.doctor import gateway, gpu, kubernetes, machine, network
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, Verdict, fail, ok, skip, warn
from agent.doctor.runner import run_checks
from agent.errors import TransientError
from agent.settings import Connection
from tests.unit.doctor_cases import Make, case_maker, outcomes

GROUPS = {
    "machine": machine.CHECKS,
    "gpu": gpu.CHECKS,
    "network": network.CHECKS,
    "gateway": gateway.CHECKS,
    "kubernetes": kubernetes.CHECKS,
}


@pytest.fixture
def make_case(tmp_path: Path) -> Iterator[Make]:
    yield from case_maker(tmp_path)


def test_what_needs_a_failed_check_is_not_tried_and_neither_is_what_needs_that(make_case: Make) -> None:
    checks = [
        Check("last", lambda _: ok("never"), ("second",)),
        Check("second", lambda _: ok("never"), ("first",)),
        Check("first", lambda _: fail("broken", "mend it")),
        Check("other", lambda _: ok("well")),
    ]
    found = outcomes(checks, make_case())
    assert [found[name].verdict.value for name in ("first", "second", "last", "other")] == [
        "fail",
        "skip",
        "skip",
        "ok",
    ]
    assert found["last"].seen == found["second"].seen == "not tried: 'first' failed"


def test_results_keep_the_order_of_the_table_and_their_group(make_case: Make) -> None:
    groups = {"a": [Check("z", lambda _: ok(""), ("y",))], "b": [Check("y", lambda _: ok(""))]}
    assert [(r.group, r.name) for r in run_checks(groups, make_case())] == [("a", "z"), ("b", "y")]


def test_what_a_check_finds_is_there_for_the_next_and_a_warning_does_not_stop_it(make_case: Make) -> None:
    checks = [
        Check("first", lambda _: warn("hm", "look", found=7)),
        Check("second", lambda case: ok(str(case.found("first", int))), ("first",)),
    ]
    assert outcomes(checks, make_case())["second"].seen == "7"


def test_checks_run_side_by_side(make_case: Make) -> None:
    together = threading.Barrier(3)

    def check(_: Case) -> Finding:
        together.wait(30)
        return ok("all three were under way")

    found = outcomes([Check(name, check) for name in "abc"], make_case())
    assert {each.verdict for each in found.values()} == {Verdict.OK}


def test_what_is_only_waited_for_may_fail(make_case: Make) -> None:
    order: list[str] = []

    def record(name: str, finding: Finding) -> Finding:
        order.append(name)
        return finding

    checks = [
        Check("second", lambda _: record("second", ok("")), after=("first",)),
        Check("first", lambda _: record("first", fail("no", "fix"))),
    ]
    assert outcomes(checks, make_case())["second"].verdict is Verdict.OK
    assert order == ["first", "second"]


def test_a_check_that_hangs_has_failed_and_the_others_are_done(make_case: Make) -> None:
    release = threading.Event()
    checks = [
        Check("hangs", lambda _: ok(f"too late: {release.wait(60)}")),
        Check("after it", lambda _: ok("never"), ("hangs",)),
        Check("well", lambda _: ok("well")),
    ]
    found = outcomes(checks, make_case(), limit_s=0.2)
    release.set()
    assert found["hangs"].verdict is Verdict.FAIL
    assert "no answer within 0.2 s" in found["hangs"].seen
    assert [found[name].verdict.value for name in ("after it", "well")] == ["skip", "ok"]


@pytest.mark.parametrize("error", [TransientError("out of descriptors"), RuntimeError("a bug")])
def test_a_check_that_breaks_has_failed_and_says_with_what(make_case: Make, error: Exception) -> None:
    def check(_: Case) -> Finding:
        raise error

    found = outcomes([Check("breaks", check)], make_case())["breaks"]
    assert found.verdict is Verdict.FAIL
    assert str(error) in found.seen


def test_every_check_has_a_name_of_its_own_and_waits_for_checks_that_there_are() -> None:
    names = [check.name for checks in GROUPS.values() for check in checks]
    assert len(names) == len(set(names))
    for checks in (*GROUPS.values(), gateway.WITHOUT_TUNNEL):
        assert {before for check in checks for before in (*check.needs, *check.after)} <= set(names)


@pytest.mark.parametrize("connection", Connection)
def test_no_check_waits_for_itself_in_the_end(connection: Connection) -> None:
    left = {
        check.name: {*check.needs, *check.after} for g in doctor._groups(connection).values() for check in g
    }
    while left:
        ready = [name for name, before in left.items() if not before & set(left)]
        assert ready, left
        for name in ready:
            del left[name]


def test_skipping_says_why() -> None:
    assert skip("because").seen == "because"
