"""Runs checks side by side, each once what it needs is known, none for longer than a limit."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence

from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, Result, Verdict, fail, skip
from agent.errors import AgentError

LIMIT_S = 10.0

_STANDS = frozenset({Verdict.OK, Verdict.WARN})


def run_checks(
    groups: Mapping[str, Sequence[Check]], case: Case, limit_s: float = LIMIT_S
) -> tuple[Result, ...]:
    """Look at everything; results in the order of the table. Never raises for what a check does.

    A check that takes longer than `limit_s` has failed; its thread is left behind and hurts nobody.
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
        self._heard: queue.SimpleQueue[tuple[str, Finding]] = queue.SimpleQueue()

    def results(self) -> tuple[Result, ...]:
        while len(self._done) < len(self._order):
            self._start_what_can()
            if self._began_s:
                self._hear()
        return tuple(self._done[name] for name in self._order)

    def _start_what_can(self) -> None:
        """Start or skip whatever has all its answers. What is skipped may be an answer to the next."""
        for name, (_, check) in list(self._waiting.items()):
            if not all(before in self._done for before in (*check.needs, *check.after)):
                continue
            del self._waiting[name]
            missing = [need for need in check.needs if self._done[need].finding.verdict not in _STANDS]
            self._began_s[name] = time.monotonic()
            if missing:
                self._heard.put((name, self._not_tried(missing[0])))
            else:
                threading.Thread(target=self._look, args=(check,), name=f"doctor-{name}", daemon=True).start()

    def _not_tried(self, need: str) -> Finding:
        finding = self._done[need].finding
        if finding.verdict is Verdict.FAIL:
            return skip(f"not tried: '{need}' failed")
        return skip(finding.seen)

    def _look(self, check: Check) -> None:
        try:
            finding = check.look(self._case)
        except AgentError as error:
            finding = fail(str(error), "the text says what to do; docs/troubleshooting.md explains it")
        except Exception as error:  # noqa: BLE001 - the top of a thread: it becomes the check's finding
            finding = fail(
                f"could not be looked at: {error!r}", "this is a bug in the check; please report it"
            )
        self._heard.put((check.name, finding))

    def _hear(self) -> None:
        """Wait for one answer, or until the oldest check has had its time."""
        first = min(self._began_s, key=lambda name: self._began_s[name])
        try:
            left_s = self._began_s[first] + self._limit_s - time.monotonic()
            name, finding = self._heard.get(timeout=max(0.0, left_s))
        except queue.Empty:
            name, finding = (
                first,
                fail(
                    f"no answer within {self._limit_s:g} s",
                    "run doctor again; if it stays so, look at what this check asks",
                ),
            )
        began_s = self._began_s.pop(name, None)
        if began_s is None:  # it came after its time
            return
        self._case.tell(name, finding.found)
        self._done[name] = Result(self._order[name][0], name, finding, time.monotonic() - began_s)
