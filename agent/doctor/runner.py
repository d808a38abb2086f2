"""Run checks in parallel, each after the checks it needs, and none for longer than a limit."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence

from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, Result, Verdict, fail, skip
from agent.errors import AgentError

LIMIT_S = 10.0

_PASSED = frozenset({Verdict.OK, Verdict.WARN})


def run_checks(
    groups: Mapping[str, Sequence[Check]], case: Case, limit_s: float = LIMIT_S
) -> tuple[Result, ...]:
    """Run all checks and return their results in the order given. Exceptions in a check become its finding.

    A check that takes longer than `limit_s` seconds has failed. Its daemon thread is abandoned.
    """
    order = {check.name: (group, check) for group, checks in groups.items() for check in checks}
    return _Run(order, case, limit_s).results()


class _Run:
    def __init__(self, order: dict[str, tuple[str, Check]], case: Case, limit_s: float) -> None:
        self._order = order
        self._case = case
        self._limit_s = limit_s
        self._waiting = dict(order)
        self._began_s: dict[str, float] = {}
        self._done: dict[str, Result] = {}
        self._findings: queue.SimpleQueue[tuple[str, Finding]] = queue.SimpleQueue()

    def results(self) -> tuple[Result, ...]:
        while len(self._done) < len(self._order):
            self._start_ready()
            if self._began_s:
                self._collect_one()
        return tuple(self._done[name] for name in self._order)

    def _start_ready(self) -> None:
        """Start or skip each check whose dependencies are done."""
        for name, (_, check) in list(self._waiting.items()):
            if not all(before in self._done for before in (*check.needs, *check.after)):
                continue
            del self._waiting[name]
            missing = [need for need in check.needs if self._done[need].finding.verdict not in _PASSED]
            self._began_s[name] = time.monotonic()
            if missing:
                self._findings.put((name, self._not_tried(missing[0])))
            else:
                threading.Thread(target=self._run, args=(check,), name=f"doctor-{name}", daemon=True).start()

    def _not_tried(self, need: str) -> Finding:
        finding = self._done[need].finding
        if finding.verdict is Verdict.FAIL:
            return skip(f"not tried: '{need}' failed")
        return skip(finding.seen)

    def _run(self, check: Check) -> None:
        try:
            finding = check.run(self._case)
        except AgentError as error:
            finding = fail(str(error), "see the text; docs/troubleshooting.md explains it")
        except Exception as error:  # noqa: BLE001 - the top of a thread: the error becomes the check's finding
            finding = fail(
                f"the check itself failed: {error!r}", "this is a bug in the check; please report it"
            )
        self._findings.put((check.name, finding))

    def _collect_one(self) -> None:
        """Wait for one finding, or until the oldest running check reaches its limit."""
        first = min(self._began_s, key=lambda name: self._began_s[name])
        try:
            left_s = self._began_s[first] + self._limit_s - time.monotonic()
            name, finding = self._findings.get(timeout=max(0.0, left_s))
        except queue.Empty:
            name, finding = (
                first,
                fail(
                    f"no answer within {self._limit_s:g} s",
                    "run doctor again; if it happens again, look at what this check contacts",
                ),
            )
        began_s = self._began_s.pop(name, None)
        if began_s is None:  # after its limit: already reported as failed
            return
        self._case.record(name, finding.found)
        self._done[name] = Result(self._order[name][0], name, finding, time.monotonic() - began_s)
