"""Fault rows 27 to 37 and 65 to 67: the gateway answers late, wrongly, or not at all.

Scaled: the gateway's lease is LEASE_S instead of 300 s and the interval between keepalives INTERVAL_S instead of
60 s; time-outs and pauses shrink with them (`TUNING`). What a row calls 60 s is said in its test.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.core.events import Event
from agent.core.lifecycle.model import DisplayedState
from agent.core.state import AgentState
from tests.integration.bounds import at_least, within
from tests.integration.lab import AgentProcess, Lab, laboratory, wait_for
from tests.integration.told import Tell
from tests.unit.simulation import World

LEASE_S = 15
INTERVAL_S = 1
TUNING = {
    "ttl_s": LEASE_S,
    "keepalive_timeout_s": 2,
    "keepalive_retry_s": 0.3,
    "call_retry_cap_s": 1,
    "refused_retry_s": 2,
    "register_timeout_s": 4,
}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with laboratory(tmp_path, gateway_options=("--ttl", str(LEASE_S))) as made:
        yield made


def agent_in(lab: Lab, **settings: str) -> AgentProcess:
    return lab.agent(TUNING, BETA9_KEEPALIVE_INTERVAL=str(INTERVAL_S), **settings)


def ready_in(lab: Lab) -> AgentProcess:
    agent = agent_in(lab).start()
    agent.wait_back()
    return agent


def oks(agent: AgentProcess) -> int:
    return int(agent.status()["counters"]["keepalives"]["ok"])


def wait_for_a_keepalive(agent: AgentProcess) -> float:
    """Seconds until the next keepalive is accepted."""
    began_s, before = time.monotonic(), oks(agent)
    wait_for("a keepalive is accepted", lambda: oks(agent) > before)
    return time.monotonic() - began_s


def wait_for_failure(agent: AgentProcess, already: int) -> str:
    """What the next logged failure of a keepalive is about; `already` were logged before."""
    wait_for("a keepalive fails", lambda: len(agent.events("keepalive_failed")) > already)
    return str(agent.events("keepalive_failed")[-1]["reason"])


def keepalives(lab: Lab) -> list[dict[str, Any]]:
    """The keepalives that named a machine, oldest first (the check before the start names none)."""
    return [entry for entry in lab.gateway.requests("keepalive") if entry["machine_id"]]


def registrations(lab: Lab) -> int:
    return len(lab.gateway.requests("register"))


@pytest.mark.fault(27)
def test_fault_27_accepts_and_never_answers(lab: Lab, tell: Tell) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    lab.gateway.set_fault("hang", route="keepalive")
    reason = wait_for_failure(agent, 0)
    noticed_s = time.monotonic() - began_s
    # As long as it takes, not as long as the clock says: a busy machine makes its attempts later.
    wait_for("it is tried again while the gateway hangs", lambda: hung(lab) >= 2)
    lab.gateway.clear_faults()
    healed_s = time.monotonic()
    wait_for("a keepalive is accepted", lambda: agent.events("keepalive_recovered"))
    took_s = time.monotonic() - healed_s
    assert reason == "no_answer"
    assert agent.status()["registration"]["times"] == 1
    assert [each["state"] for each in agent.events("state")].count("READY") == 1
    tell(
        f"timed out after {noticed_s:.1f} s, {hung(lab)} attempts; accepted {took_s:.1f} s after the gateway answered",
        took_s,
    )


def hung(lab: Lab) -> int:
    """How many keepalives the gateway has left without an answer."""
    return len([entry for entry in keepalives(lab) if entry["fault"] == "hang"])


@pytest.mark.fault(28)
def test_fault_28_server_errors(lab: Lab, tell: Tell) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    for number, status in enumerate((500, 502, 503, 504)):
        lab.gateway.set_fault(
            "status", route="keepalive", count=3, status=status, body="<html>upstream</html>"
        )
        assert wait_for_failure(agent, number) == "gateway_error"
        wait_for("recovered", lambda n=number: len(agent.events("keepalive_recovered")) > n)  # type: ignore[misc]
    took_s = time.monotonic() - began_s
    assert agent.status()["registration"]["times"] == 1
    assert agent.status()["tunnel"]["generation"] == 1
    tell(
        "4 x 3 errors, each retried; lease kept, no registration, same tunnel",
        took_s,
    )


@pytest.mark.fault(29)
def test_fault_29_too_many_requests(lab: Lab, tell: Tell) -> None:
    agent = ready_in(lab)

    def gap_after_429(retry_after: int) -> float:
        """Seconds from the refused keepalive to the next."""
        lab.gateway.set_fault(
            "status", route="keepalive", count=1, status=429, headers={"Retry-After": str(retry_after)}
        )

        def following() -> list[float] | None:
            told = keepalives(lab)
            at = [n for n, entry in enumerate(told) if entry["status"] == 429]
            return [told[at[-1]]["at_s"], told[at[-1] + 1]["at_s"]] if at and at[-1] + 1 < len(told) else None

        before = len([entry for entry in keepalives(lab) if entry["status"] == 429])
        wait_for("429", lambda: len([e for e in keepalives(lab) if e["status"] == 429]) > before)
        refused_s, next_s = wait_for("the next keepalive", following)
        return next_s - refused_s

    honoured_s = gap_after_429(4)
    bounded_s = gap_after_429(1000)
    assert at_least(4) <= honoured_s < LEASE_S
    assert bounded_s < LEASE_S
    assert agent.status()["registration"]["times"] == 1
    tell(
        f"Retry-After 4: next after {honoured_s:.1f} s; Retry-After 1000: after {bounded_s:.1f} s, lease {LEASE_S} s",
        honoured_s + bounded_s,
    )


@pytest.mark.fault(30)
def test_fault_30_garbage(lab: Lab, tell: Tell) -> None:
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
        wait_for("recovered", lambda n=number: len(agent.events("keepalive_recovered")) > n)  # type: ignore[misc]
    took_s = time.monotonic() - began_s
    assert reasons == ["bad_reply", "no_answer", "bad_reply", "no_answer"]
    assert agent.status()["registration"]["times"] == 1
    big = agent.events("keepalive_failed")[2]["text"]
    assert "longer than" in big
    tell(
        "HTML, cut-off JSON, 10 MB (read to 256 KiB), 1 byte/s (ended at the time limit): each retried",
        took_s,
    )


@pytest.mark.fault(31)
def test_fault_31_refused(lab: Lab, tell: Tell) -> None:
    """Scaled: the slow retry is at most 2 s (60 s)."""
    agent = ready_in(lab)
    token_file = Path(agent.environment["BETA9_TOKEN_FILE"])
    good = token_file.read_text().strip()
    began_s = time.monotonic()

    # A token that is revoked, then one of the wrong kind; each healed by a new file, the agent not restarted.
    lab.gateway.deactivate_token(good)
    assert wait_for_failure(agent, 0) == "unauthorized"
    token_file.write_text(lab.gateway.new_token("workspace"))
    wait_for("403", lambda: [e for e in keepalives(lab) if e["status"] == 403])
    token_file.write_text(lab.gateway.new_token("machine"))
    wait_for("healed", lambda: agent.events("keepalive_recovered"))
    healed_s = time.monotonic() - began_s

    not_found: dict[str, Any] = {"status": 404, "body": '{"message":"Not Found"}'}
    lab.gateway.set_fault("status", route="keepalive", count=2, **not_found)
    assert wait_for_failure(agent, 1) == "no_route"
    wait_for("recovered", lambda: len(agent.events("keepalive_recovered")) > 1)
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
    tell(
        f"401 and 403 healed by a new token file in {healed_s:.1f} s, 404 waited out; at the start: {codes}",
        time.monotonic() - began_s,
    )


@pytest.mark.fault(32)
def test_fault_32_machine_not_found(lab: Lab, tell: Tell) -> None:
    agent = ready_in(lab)
    log_before = len(lab.gateway.requests())
    began_s = time.monotonic()
    assert lab.gateway.delete_machine(agent.machine_id) == 1
    wait_for("ready again", lambda: lab.gateway.status(agent.machine_id) == "ready")
    took_s = time.monotonic() - began_s
    agent.wait_back()
    told = [e for e in lab.gateway.requests()[log_before:] if e["route"] in {"register", "keepalive"}]
    lost = next(n for n, entry in enumerate(told) if entry["status"] == 500)
    after = told[lost + 1 : lost + 3]
    assert [entry["route"] for entry in after] == ["register", "keepalive"]
    assert {entry["machine_id"] for entry in after} == {agent.machine_id}
    at_once_s = after[1]["at_s"] - after[0]["at_s"]
    assert registrations(lab) == 2
    tell(
        f"one registration, keepalive {at_once_s * 1000:.0f} ms after it, same id",
        took_s,
    )


@pytest.mark.fault(33)
def test_fault_33_the_reply_to_register_is_lost(lab: Lab, tell: Tell) -> None:
    lab.gateway.set_fault("drop_reply", route="register", count=2)
    began_s = time.monotonic()
    agent = ready_in(lab)
    took_s = time.monotonic() - began_s
    told = lab.gateway.requests("register")
    assert len(told) >= 2
    assert {entry["machine_id"] for entry in told} == {agent.machine_id}
    assert len(lab.gateway.machines()) == 1
    tell(
        f"{len(told)} registrations sent, two replies lost, one machine",
        took_s,
    )


@pytest.mark.fault(34)
def test_fault_34_wiped(lab: Lab, tell: Tell) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    lab.gateway.wipe()
    wait_for("ready again", lambda: lab.gateway.status(agent.machine_id) == "ready")
    took_s = time.monotonic() - began_s
    assert agent.status()["registration"]["times"] == 2
    last = [entry["at_s"] for entry in keepalives(lab)]
    assert max(b - a for a, b in itertools.pairwise(last)) < within(2 * INTERVAL_S + 1)
    tell(f"{took_s:.1f} s at an interval of {INTERVAL_S} s", took_s)


@pytest.mark.fault(35)
def test_fault_35_reply_slower_than_the_interval(lab: Lab, tell: Tell) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    lab.gateway.set_fault("delay", route="keepalive", delay_s=1.5)
    wait_for("4 slow keepalives", lambda: len([e for e in keepalives(lab) if e["fault"] == "delay"]) > 4)
    took_s = time.monotonic() - began_s
    slow = [entry["at_s"] for entry in keepalives(lab) if entry["fault"] == "delay"]
    least_s = min(b - a for a, b in itertools.pairwise(slow))
    assert least_s >= at_least(1.5), "a keepalive was sent while another was under way"
    assert agent.status()["counters"]["keepalives"]["failed"] == 0
    tell(
        f"replies after 1.5 s at an interval of {INTERVAL_S} s: never two at once (least gap {least_s:.1f} s)",
        took_s,
    )


@pytest.mark.fault(36)
def test_fault_36_pooled_connection_dead(lab: Lab, tell: Tell) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    before = len(keepalives(lab))
    # The gateway ends the kept connection only when the next call is on it, so that nothing shows beforehand.
    lab.gateway.set_fault("close", route="keepalive", count=1, reset=True)
    wait_for("accepted after it", lambda: len(keepalives(lab)) > before + 2)
    ended = next(n for n, entry in enumerate(keepalives(lab)) if entry["fault"] == "close")
    gap_s = keepalives(lab)[ended + 1]["at_s"] - keepalives(lab)[ended]["at_s"]
    assert gap_s < within(0.3)
    assert agent.status()["counters"]["keepalives"]["failed"] == 0

    # And with the whole tunnel: a new child, the old connection's other end is gone with the old one.
    generation = agent.status()["tunnel"]["generation"]
    agent_ssh = agent.ssh_pids()["api"]
    os.kill(agent_ssh, signal.SIGKILL)
    wait_for("a new tunnel", lambda: agent.status()["tunnel"]["generation"] > generation)
    agent.wait_back()
    wait_for_a_keepalive(agent)
    assert agent.status()["counters"]["keepalives"]["failed"] == 0

    # A second death in a row is the gateway's trouble and counts.
    lab.gateway.set_fault("close", route="keepalive", count=2, reset=True)
    assert wait_for_failure(agent, 0) == "no_answer"
    tell(
        f"asked again {gap_s * 1000:.0f} ms later, no failure counted, also after a new tunnel; a second death counts",
        time.monotonic() - began_s,
    )


@contextmanager
def elsewhere() -> Iterator[tuple[str, list[bytes]]]:
    """Another host, as far as HTTP goes: its base URL, and whatever it was sent."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(2)
                    got.append(connection.recv(65536))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", got
        finally:
            done.set()
            thread.join()


@pytest.mark.fault(37)
def test_fault_37_redirect(lab: Lab, tell: Tell) -> None:
    with elsewhere() as (url, got):
        agent = ready_in(lab)
        began_s = time.monotonic()
        for number, status in enumerate((301, 302, 303, 307, 308)):
            lab.gateway.set_fault("redirect", count=2, route="keepalive", status=status, location=f"{url}/x")
            assert wait_for_failure(agent, number) == "bad_reply"
            wait_for("recovered", lambda n=number: len(agent.events("keepalive_recovered")) > n)  # type: ignore[misc]
        took_s = time.monotonic() - began_s
        assert not got
    assert "redirect" in agent.events("keepalive_failed")[0]["text"]
    tell(
        "301, 302, 303, 307, 308: the other host was not connected to; retried at the gateway",
        took_s,
    )


AGENTS = 5
"""Real agents in row 65: what two slow cores bear beside other work. Fifty more live in the simulated world."""


@pytest.mark.fault(65)
@pytest.mark.timeout(240)
def test_fault_65_redis_restarted(tmp_path: Path, tell: Tell) -> None:
    """Scaled for the real agents: an interval of 10 s (60 s) and a lease of 60 s; the simulated ones as shipped."""
    interval_s = 10
    with laboratory(tmp_path, gateway_options=("--ttl", "60")) as lab:
        agents = [lab.agent(BETA9_KEEPALIVE_INTERVAL=str(interval_s)).start() for _ in range(AGENTS)]
        for agent in agents:
            agent.wait_back()
        before = len(lab.gateway.requests())
        began_s = time.monotonic()
        lab.gateway.wipe()
        ids = {agent.machine_id for agent in agents}
        wait_for(
            "all ready",
            lambda: {m["machine_id"] for m in lab.gateway.machines() if m["status"] == "ready"} == ids,
        )
        took_s = time.monotonic() - began_s
        for machine_id in ids:
            told = [e for e in lab.gateway.requests()[before:] if e["machine_id"] == machine_id]
            lost = next(n for n, entry in enumerate(told) if entry["status"] == 500)
            assert [entry["route"] for entry in told[lost + 1 : lost + 3]] == ["register", "keepalive"]
            assert [entry["route"] for entry in told].count("register") == 1
        assert took_s < within(interval_s + 3)

    moments = simulated_restart(50)
    assert max(moments) < 60
    busiest = max(sum(second <= moment < second + 1 for moment in moments) for second in range(60))
    assert busiest < 50 / 2
    tell(
        f"{AGENTS} real agents in {took_s:.1f} s (interval {interval_s} s); 50 simulated in {max(moments):.0f} s "
        f"(interval 60 s), at most {busiest} in one second",
        took_s,
    )


def simulated_restart(count: int) -> list[float]:
    """Seconds until each of so many machines, started within a minute, is ready again after the gateway forgot all."""
    moments = []
    for seed in range(count):
        world = World(seed)
        world.run_for(5 + seed * 60 / count)
        assert world.state.displayed is DisplayedState.READY
        sent: list[str] = []

        def watch(
            world: World, _event: Event, before: AgentState, after: AgentState, sent: list[str] = sent
        ) -> None:
            if after.call is not None and after.call != before.call:
                sent.append(after.call.kind.value)

        world.watch = watch
        world.entry = None
        began_s = world.now_s
        while not world.would_place():
            world.run_for(0.05)
            assert world.now_s - began_s < 300
        moments.append(world.now_s - began_s)
        assert sent[:3] == ["keepalive", "register", "keepalive"]
        assert len(sent) == 3
    return moments


@pytest.mark.fault(66)
def test_fault_66_database_down(lab: Lab, tell: Tell) -> None:
    """Scaled: the database is down for 5 s (60 s) and a refused call is tried again within 2 s (60 s)."""
    agent = ready_in(lab)
    began_s = time.monotonic()
    number = lab.gateway.set_fault("database_down")
    assert wait_for_failure(agent, 0) == "unauthorized"
    late = agent_in(lab).start()
    code = late.wait_exit()
    assert code == 77
    wait_for("5 s have passed", lambda: time.monotonic() - began_s > 5)
    lab.gateway.clear_faults(number)
    wait_for("accepted again", lambda: agent.events("keepalive_recovered"))
    took_s = agent.wait_back() + time.monotonic() - began_s
    assert agent.status()["registration"]["times"] == 1
    late.start()
    late.wait_back()
    tell(
        f"the registered one accepted again after {took_s - 5:.1f} s; the starting one exited {code}, then was ready",
        took_s,
    )


@pytest.mark.fault(67)
def test_fault_67_machine_not_found_escaped(lab: Lab, tell: Tell) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    lab.gateway.wipe()
    wait_for("ready again", lambda: lab.gateway.status(agent.machine_id) == "ready")
    took_s = time.monotonic() - began_s
    assert agent.status()["registration"]["times"] == 2

    # The same call, made by hand, shows that the text is escaped on the wire.
    token = Path(agent.environment["BETA9_TOKEN_FILE"]).read_text().strip()
    body = {"machine_id": "00000000", "pool_name": "gpu", "provider_name": "generic", "metrics": {}}
    request = urllib.request.Request(
        f"http://{lab.target}/api/v1/machine/keepalive",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    raw = refused.value.read()
    assert rb"\u003cprovider:machine:" in raw
    assert b"<" not in raw
    tell(f"escaped on the wire, recognised, ready again after {took_s:.1f} s", took_s)
