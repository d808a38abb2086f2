"""Fault rows 27 to 31, 35 and 66: the gateway answers late, with garbage, with an error, or not at all."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.bounds import at_least, within
from tests.integration.fault_report import Report
from tests.integration.faults.gateway.short_lease import (
    INTERVAL_S,
    LEASE_S,
    agent_in,
    keepalives,
    ready_in,
    wait_for_failure,
    wait_for_recovery,
)
from tests.integration.lab import Lab
from tests.integration.polling import wait_for


@pytest.mark.fault(27)
def test_fault_27_accepts_and_never_answers(lab: Lab, report: Report) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    lab.gateway.set_fault("hang", route="keepalive")
    reason = wait_for_failure(agent, 0)
    noticed_s = time.monotonic() - began_s
    # Wait for the attempts instead of a fixed time: on a busy machine they come later.
    wait_for("another attempt while the gateway hangs", lambda: hung(lab) >= 2)
    lab.gateway.clear_faults()
    healed_s = time.monotonic()
    wait_for_recovery(agent)
    took_s = time.monotonic() - healed_s
    assert reason == "no_answer"
    assert agent.status()["registration"]["times"] == 1
    assert [each["state"] for each in agent.events("state")].count("READY") == 1
    report(
        f"timed out after {noticed_s:.1f} s, {hung(lab)} attempts; accepted {took_s:.1f} s after the gateway answered",
        took_s,
    )


def hung(lab: Lab) -> int:
    """Return how many keepalives the gateway has left unanswered."""
    return len([entry for entry in keepalives(lab) if entry["fault"] == "hang"])


@pytest.mark.fault(28)
def test_fault_28_server_errors(lab: Lab, report: Report) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    for number, status in enumerate((500, 502, 503, 504)):
        lab.gateway.set_fault(
            "status", route="keepalive", count=3, status=status, body="<html>upstream</html>"
        )
        assert wait_for_failure(agent, number) == "gateway_error"
        wait_for_recovery(agent, number)
    took_s = time.monotonic() - began_s
    assert agent.status()["registration"]["times"] == 1
    assert agent.status()["tunnel"]["generation"] == 1
    report(
        "4 x 3 errors, each retried; lease kept, no registration, same tunnel",
        took_s,
    )


@pytest.mark.fault(29)
def test_fault_29_too_many_requests(lab: Lab, report: Report) -> None:
    agent = ready_in(lab)

    def gap_after_429(retry_after: int) -> float:
        """Return the seconds from the refused keepalive to the next."""
        lab.gateway.set_fault(
            "status", route="keepalive", count=1, status=429, headers={"Retry-After": str(retry_after)}
        )

        def refused_and_next() -> list[float] | None:
            entries = keepalives(lab)
            last = refused(lab)[-1]
            return [each["at_s"] for each in entries[last : last + 2]] if last + 1 < len(entries) else None

        before = len(refused(lab))
        wait_for("429", lambda: len(refused(lab)) > before)
        refused_s, next_s = wait_for("the next keepalive", refused_and_next)
        return next_s - refused_s

    honoured_s = gap_after_429(4)
    bounded_s = gap_after_429(1000)
    assert at_least(4) <= honoured_s < LEASE_S
    assert bounded_s < LEASE_S
    assert agent.status()["registration"]["times"] == 1
    report(
        f"Retry-After 4: next after {honoured_s:.1f} s; Retry-After 1000: after {bounded_s:.1f} s, lease {LEASE_S} s",
        honoured_s + bounded_s,
    )


def refused(lab: Lab) -> list[int]:
    """Return the positions of the keepalives that were answered with 429."""
    return [n for n, entry in enumerate(keepalives(lab)) if entry["status"] == 429]


@pytest.mark.fault(30)
def test_fault_30_garbage(lab: Lab, report: Report) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    faults: list[tuple[str, dict[str, Any]]] = [
        ("status", {"status": 200, "body": "<html><body>welcome</body></html>"}),
        ("truncate", {}),
        ("big", {"size_bytes": 10_000_000}),
        ("trickle", {"interval_s": 1}),
    ]
    reasons = []
    for number, (kind, parameters) in enumerate(faults):
        lab.gateway.set_fault(kind, route="keepalive", count=1, **parameters)
        reasons.append(wait_for_failure(agent, number))
        wait_for_recovery(agent, number)
    took_s = time.monotonic() - began_s
    assert reasons == ["bad_reply", "no_answer", "bad_reply", "no_answer"]
    assert agent.status()["registration"]["times"] == 1
    big = agent.events("keepalive_failed")[2]["text"]
    assert "longer than" in big
    report(
        "HTML, cut-off JSON, 10 MB (read to 256 KiB), 1 byte/s (ended at the time limit): each retried",
        took_s,
    )


@pytest.mark.fault(31)
def test_fault_31_refused(lab: Lab, report: Report) -> None:
    """Scaled: the slow retry is at most 2 s (60 s)."""
    agent = ready_in(lab)
    token_file = Path(agent.environment["BETA9_TOKEN_FILE"])
    good = token_file.read_text().strip()
    began_s = time.monotonic()

    # A revoked token, then one of the wrong kind: a new token file heals both without a restart.
    lab.gateway.deactivate_token(good)
    assert wait_for_failure(agent, 0) == "unauthorized"
    token_file.write_text(lab.gateway.new_token("workspace"))
    wait_for("403", lambda: [e for e in keepalives(lab) if e["status"] == 403])
    token_file.write_text(lab.gateway.new_token("machine"))
    wait_for_recovery(agent)
    healed_s = time.monotonic() - began_s

    not_found: dict[str, Any] = {"status": 404, "body": '{"message":"Not Found"}'}
    lab.gateway.set_fault("status", route="keepalive", count=2, **not_found)
    assert wait_for_failure(agent, 1) == "no_route"
    wait_for_recovery(agent, 1)
    assert agent.wait_back() < within(LEASE_S)
    assert agent.stop() == 0

    codes: dict[int, int] = {}
    for status, fault in (
        (401, {"status": 401, "body": '{"message":"Unauthorized"}'}),
        (403, {"status": 403, "body": '{"message":"Invalid token"}'}),
        (404, not_found),
    ):
        number = lab.gateway.set_fault("status", route="keepalive", **fault)
        codes[status] = agent_in(lab).start().wait_exit()
        lab.gateway.clear_faults(number)
    assert codes == {401: 77, 403: 77, 404: 78}
    report(
        f"401 and 403 healed by a new token file in {healed_s:.1f} s, 404 waited out; exit codes at the start: {codes}",
        time.monotonic() - began_s,
    )


@pytest.mark.fault(35)
def test_fault_35_reply_slower_than_the_interval(lab: Lab, report: Report) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    lab.gateway.set_fault("delay", route="keepalive", delay_s=1.5)
    wait_for("4 slow keepalives", lambda: len([e for e in keepalives(lab) if e["fault"] == "delay"]) > 4)
    took_s = time.monotonic() - began_s
    slow = [entry["at_s"] for entry in keepalives(lab) if entry["fault"] == "delay"]
    shortest_s = min(b - a for a, b in itertools.pairwise(slow))
    assert shortest_s >= at_least(1.5), "a keepalive was sent while another was in flight"
    assert agent.status()["counters"]["keepalives"]["failed"] == 0
    report(
        f"replies after 1.5 s at an interval of {INTERVAL_S} s: never two at once (shortest gap {shortest_s:.1f} s)",
        took_s,
    )


@pytest.mark.fault(66)
def test_fault_66_database_down(lab: Lab, report: Report) -> None:
    """Scaled: the database is down for 5 s (60 s) and a refused call is retried within 2 s (60 s)."""
    agent = ready_in(lab)
    began_s = time.monotonic()
    number = lab.gateway.set_fault("database_down")
    assert wait_for_failure(agent, 0) == "unauthorized"
    second = agent_in(lab).start()
    code = second.wait_exit()
    assert code == 77
    wait_for("5 s have passed", lambda: time.monotonic() - began_s > 5)
    lab.gateway.clear_faults(number)
    wait_for_recovery(agent)
    took_s = agent.wait_back() + time.monotonic() - began_s
    assert agent.status()["registration"]["times"] == 1
    second.start()
    second.wait_back()
    report(
        f"the registered agent accepted again after {took_s - 5:.1f} s; a starting one exited {code}, then was ready",
        took_s,
    )
