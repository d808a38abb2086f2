"""Whether work can be placed here, and whether a user's function would return its result."""

from __future__ import annotations

from dataclasses import replace

from agent.core.config import Connection, ReverseMode
from agent.core.hairpin.model import Hairpin
from agent.core.machine_api.model import Lease, Offer
from agent.core.machine_api.placement import functions_fail, unplaceable
from agent.core.state import AgentState
from tests.unit.core_cases import NOW_S, having_offered, placeable

EVERYTHING = Offer(offered=True, reason=None)
LEASE = Lease(ready=True, last_ok_s=NOW_S, expires_at_s=NOW_S + 300)


def listed(**config: object) -> AgentState:
    state = having_offered(offer=EVERYTHING, lease=LEASE)
    return replace(state, config=replace(state.config, **config))  # type: ignore[arg-type]


def test_the_reason_against_the_offer_comes_first() -> None:
    state = replace(listed(), offer=Offer(offered=False, reason="k3s does not answer"))
    assert unplaceable(state) == functions_fail(state) == "k3s does not answer"


def test_before_the_gateway_was_told_and_before_a_keepalive() -> None:
    assert unplaceable(placeable(offer=EVERYTHING)) == "the gateway was not told yet"
    registered = replace(listed(), lease=Lease())
    assert unplaceable(registered) == "the gateway has accepted no keepalive since the machine was registered"


def test_over_ssh_alone_work_is_placed_and_functions_do_not_return() -> None:
    """The gateway dials ports of the workers, and this tunnel carries 6443 only (the gateway's contract)."""
    assert unplaceable(listed()) is None
    reason = functions_fail(listed())
    assert reason is not None
    assert "port 6443" in reason


def test_by_way_of_the_hairpin_functions_return_unless_the_containers_are_out_of_reach() -> None:
    any_port = replace(listed(reverse=ReverseMode.AUTO), hairpin=Hairpin(checked_at_s=NOW_S))
    assert functions_fail(any_port) is None
    unreachable = replace(any_port, hairpin=Hairpin(checked_at_s=NOW_S, containers="192.168.1.0/24"))
    assert functions_fail(unreachable) == "192.168.1.0/24"
    assert unplaceable(unreachable) is None


def test_an_address_that_a_person_gave_may_carry_every_port() -> None:
    assert functions_fail(listed(hostname="127.70.1.1")) is None
    direct = listed(connection=Connection.DIRECT, hostname="127.70.1.1")
    assert functions_fail(direct) is None
