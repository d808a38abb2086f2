"""What `/status` shows: the interface that scripts outside the project read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agent.core.host.facts import Gpu, GpuReading
from agent.core.lifecycle.model import DisplayedState
from agent.core.machine_api.model import Advertisement, Capacity, Lease, Offer, Registration
from agent.core.state import AgentState
from agent.core.status import is_ready, status
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase
from tests.unit.core_cases import ADDRESSES, NOW_S, POLICY, SSH, UP, placeable

LEASE = Lease(ready=True, last_ok_s=NOW_S - 12, expires_at_s=NOW_S + 288, failures=1)
PROMISE = Advertisement(ADDRESSES[0], Capacity(7500, 15360, 2), offered=True)
READY = placeable(
    displayed=DisplayedState.READY,
    since_s=NOW_S - 20,
    lease=LEASE,
    offer=Offer(True, None),
    registration=Registration(True, True, 1, advertisement=PROMISE, gateway_config=True),
)


def told(state: AgentState = READY) -> dict[str, Any]:
    page = status(state, NOW_S, POLICY, "http://localhost:1994")
    return dict(json.loads(json.dumps(page)))


def test_every_key_of_the_fixed_interface_is_there() -> None:
    page = told()
    assert {
        "machine_id", "pool", "state", "since_s", "gateway", "tunnel", "registration", "keepalive", "capacity",
        "gpus", "interruption", "version", "degraded",
    } <= set(page)  # fmt: skip
    assert {"url", "last_ok_s", "last_error"} <= set(page["gateway"])
    assert {"connection", "up", "generation", "restarts", "forward", "reverse"} <= set(page["tunnel"])
    assert {"up", "address", "reason"} <= set(page["tunnel"]["forward"])
    assert {"up", "address", "reason"} <= set(page["tunnel"]["reverse"])
    assert {"hostname", "times"} <= set(page["registration"])
    assert {"last_ok_s", "ttl_s", "interval_s", "failures"} <= set(page["keepalive"])
    assert {"cpu_millicores", "memory_mib", "gpu_count", "free_gpu_count", "offered", "reason"} <= set(
        page["capacity"]
    )
    assert {"uuid", "name", "healthy", "reason"} <= set(page["gpus"][0])


def test_ages_are_seconds_ago_and_the_lease_is_seconds_left() -> None:
    page = told()
    assert page["since_s"] == 20
    assert page["keepalive"] == {"last_ok_s": 12, "ttl_s": 288, "interval_s": 60, "failures": 1}


def test_what_never_happened_is_null() -> None:
    page = told(AgentState(SSH))
    assert page["gateway"]["last_ok_s"] is None
    assert page["keepalive"]["last_ok_s"] is None
    assert page["keepalive"]["ttl_s"] is None
    assert page["registration"] == {"hostname": None, "times": 0}


def test_a_lease_that_ran_out_has_nothing_left_rather_than_less() -> None:
    late = replace(READY, lease=replace(LEASE, expires_at_s=NOW_S - 5))
    assert told(late)["keepalive"]["ttl_s"] == 0


@pytest.mark.parametrize("candidate", range(4))
def test_the_reverse_address_shown_is_the_one_in_use(candidate: int) -> None:
    assert told(replace(READY, candidate=candidate))["tunnel"]["reverse"]["address"] == ADDRESSES[candidate]


def test_the_candidates_are_gone_round() -> None:
    assert told(replace(READY, candidate=5))["tunnel"]["reverse"]["address"] == ADDRESSES[1]


def test_the_forward_is_known_by_where_the_gateway_is_reached() -> None:
    assert told()["tunnel"]["forward"]["address"] == "http://localhost:1994"


def test_a_link_that_is_down_says_why() -> None:
    fault = Fault(FaultKind.BIND, "sshd refused the reverse address")
    page = told(replace(READY, reverse=Link(phase=LinkPhase.DOWN, fault=fault)))
    assert page["tunnel"]["reverse"]["up"] is False
    assert page["tunnel"]["reverse"]["reason"] == "sshd refused the reverse address"


def test_offered_is_what_the_gateway_was_told_and_not_what_we_would_like() -> None:
    withdrawing = replace(READY, offer=Offer(False, "k3s does not answer"))
    capacity = told(withdrawing)["capacity"]
    assert capacity["offered"] is True
    assert capacity["reason"] == "k3s does not answer"
    forgotten = replace(READY, registration=replace(READY.registration, known=False))
    assert told(forgotten)["capacity"]["offered"] is False


def test_work_can_be_placed_once_the_gateway_was_told_the_present_address_and_has_taken_a_keepalive_since() -> (
    None
):
    assert told()["placement"] == {
        "keepalives_go": False,
        "work_can_be_placed": True,
        "reason": None,
        "blocked_by": None,
    }
    moved = told(replace(READY, candidate=1))["placement"]
    assert not moved["work_can_be_placed"]
    assert moved["reason"] == "the gateway was not told yet"
    again = told(replace(READY, registration=replace(READY.registration, at_s=NOW_S - 1)))["placement"]
    assert not again["work_can_be_placed"]
    assert "no keepalive since" in again["reason"]


def test_a_broken_board_is_listed_with_its_reason_and_degrades() -> None:
    broken = GpuReading((Gpu("GPU-0", "H100", healthy=False, reason="Xid 79"),))
    page = told(replace(READY, gpus=broken))
    assert page["gpus"][0]["reason"] == "Xid 79"
    assert any("GPU-0" in text and "Xid 79" in text for text in page["degraded"])


def test_a_gateway_without_direct_redis_host_is_named() -> None:
    state = replace(READY, registration=replace(READY.registration, gateway_config=False))
    assert any("directRedisHost" in text for text in told(state)["degraded"])


def test_a_refused_session_channel_is_named_with_its_child() -> None:
    page = told(replace(READY, api=replace(UP, session=False)))
    assert any("session channels" in text and "api" in text for text in page["degraded"])


def test_ready_means_in_state_ready_with_a_lease_that_has_not_run_out() -> None:
    assert is_ready(READY, NOW_S)
    assert not is_ready(READY, NOW_S + 288)
    assert not is_ready(replace(READY, displayed=DisplayedState.CONNECTING), NOW_S)
    assert not is_ready(replace(READY, lease=Lease()), NOW_S)
