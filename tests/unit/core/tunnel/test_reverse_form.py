"""Which form the reverse path has: the table of reverse_form.py, and lives of a simulated machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agent.core.config import Config, Connection, K3sMode, ReverseMode
from agent.core.events import LinkEnded
from agent.core.hairpin.model import Hairpin, HairpinFault, HairpinFaultKind
from agent.core.lifecycle.model import DisplayedState
from agent.core.machine_api.placement import functions_fail
from agent.core.tunnel import reverse_form
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Fallback, LinkPhase, Purpose
from tests.unit.core.test_simulation import invariants
from tests.unit.core_cases import ADDRESSES, AT, SSH, placeable, with_config
from tests.unit.simulation import World

AUTO = replace(SSH, reverse=ReverseMode.AUTO)


def world(mode: ReverseMode = ReverseMode.AUTO, seconds: float = 10, **faults: Any) -> World:
    """A machine that lives for a while with these faults from its start."""
    made = World(1, config=replace(AUTO, reverse=mode))
    made.watch = invariants
    for name, value in faults.items():
        setattr(made.faults, name, value)
    made.run_for(seconds)
    return made


def is_any_port(made: World) -> bool:
    return made.state.reverse.any_port and made.state.reverse.phase is LinkPhase.UP


# --- The table -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"reverse": ReverseMode.K3S}, "BETA9_REVERSE"),
        ({"connection": Connection.TAILSCALE}, "tailscale"),
        ({"once": True}, "--once"),
        ({"k3s": K3sMode.NONE}, "BETA9_K3S"),
        ({"addresses": ("10.0.0.5",)}, "BETA9_REVERSE_BIND"),
        ({"addresses": ("gateway.example",)}, "BETA9_REVERSE_BIND"),
    ],
    ids=str,
)
def test_settings_that_rule_out_any_port(changes: dict[str, Any], part: str) -> None:
    assert part in (reverse_form.always_plain(replace(AUTO, **changes)) or "")


@pytest.mark.parametrize("mode", [ReverseMode.AUTO, ReverseMode.ANY_PORT])
def test_any_port_is_the_ordinary_form(mode: ReverseMode) -> None:
    assert reverse_form.uses_any_port(with_config(reverse=mode))


def test_insisting_on_any_port_beats_what_only_auto_heeds() -> None:
    config = replace(SSH, reverse=ReverseMode.ANY_PORT, k3s=K3sMode.NONE)
    assert reverse_form.always_plain(config) is None
    unable = Hairpin(checked_at_s=1.0, fault=HairpinFault(HairpinFaultKind.UNABLE, "no NET_ADMIN"))
    state = placeable(config=config, hairpin=unable)
    assert reverse_form.uses_any_port(reverse_form.fall_back(state, "no relay", AT))


@pytest.mark.parametrize("kind", HairpinFaultKind)
def test_only_a_machine_that_cannot_make_a_hairpin_uses_the_plain_form(kind: HairpinFaultKind) -> None:
    state = placeable(config=AUTO, hairpin=Hairpin(checked_at_s=1.0, fault=HairpinFault(kind, "why")))
    assert reverse_form.plain_reason(state) == ("why" if kind is HairpinFaultKind.UNABLE else None)


def test_the_pause_between_trials_doubles_up_to_ten_minutes() -> None:
    state, pauses = placeable(config=AUTO), []
    for _ in range(3):
        state = reverse_form.fall_back(state, "no relay", AT)
        pauses.append(state.fallback.trial_at_s - AT.now_s)
    assert pauses == [300, 600, 600]
    assert reverse_form.on_verified(replace(state, fallback=Fallback())).fallback == Fallback(verified=True)


# --- Lives -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [ReverseMode.AUTO, ReverseMode.ANY_PORT])
def test_with_a_relay_and_a_hairpin_functions_can_run(mode: ReverseMode) -> None:
    made = world(mode, 5)
    assert is_any_port(made)
    assert made.would_place()
    assert functions_fail(made.state) is None


PLAIN: dict[str, tuple[dict[str, Any], str]] = {
    "no hairpin": ({"hairpin": HairpinFaultKind.UNABLE}, "unable"),
    "k3s on loopback only": ({"k3s_on_loopback": True}, "not reached"),
    "sshd grants 6443 alone": ({"no_1080": True}, "beta9-worker authorize"),
    "no relay": ({"relay": "gone"}, "setup.sh --relay"),
    "no relay, and the gateway's host has a k3s": ({"relay": "gone", "wildcard": True}, "setup.sh --relay"),
}


@pytest.mark.parametrize("faults", PLAIN.values(), ids=PLAIN)
def test_the_plain_form_stands_in_and_says_what_it_lacks(faults: tuple[dict[str, Any], str]) -> None:
    made = world(seconds=15, **faults[0])
    assert made.would_place()
    assert not made.state.reverse.any_port
    reason = functions_fail(made.state) or ""
    assert "6443" in reason
    assert faults[1] in reason


@pytest.mark.parametrize("faults", PLAIN.values(), ids=PLAIN)
def test_who_insists_on_any_port_gets_a_reason_and_no_work(faults: tuple[dict[str, Any], str]) -> None:
    made = world(ReverseMode.ANY_PORT, 60, **faults[0])
    assert not made.would_place()
    assert made.state.offer.by == "path"


@pytest.mark.parametrize("kind", [HairpinFaultKind.TAKEN, HairpinFaultKind.BROKEN])
@pytest.mark.parametrize("mode", [ReverseMode.AUTO, ReverseMode.ANY_PORT])
def test_fault_74_a_range_that_is_taken_is_named_and_nothing_is_offered(
    kind: HairpinFaultKind, mode: ReverseMode
) -> None:
    made = world(mode, 30, hairpin=kind)
    assert not made.would_place()
    assert made.state.offer.reason == kind.value
    made.faults.hairpin = None
    made.run_for(10)
    assert is_any_port(made)
    assert made.would_place()


@pytest.mark.parametrize("name", ["no_1080", "relay"])
def test_what_the_other_side_lacked_is_taken_up_when_it_comes(name: str) -> None:
    fault: dict[str, Any] = {name: {"no_1080": True, "relay": "gone"}[name]}
    made = world(seconds=30, **fault)
    assert not made.state.reverse.any_port
    before = made.registrations
    made.run_for(3600)
    assert made.would_place()
    assert made.registrations == before, "a trial withdrew the offer"
    setattr(made.faults, name, {"no_1080": False, "relay": ""}[name])
    made.run_for(610)
    assert is_any_port(made)
    assert made.would_place()


def test_a_relay_that_restarts_costs_a_moment_and_one_that_is_gone_the_form() -> None:
    made = world(seconds=100)
    made.faults.relay = "gone"
    made.run_for(15)
    assert not made.would_place()
    made.faults.relay = ""
    made.run_for(10)
    assert is_any_port(made)
    made.faults.relay = "gone"
    made.run_for(60)
    assert made.would_place()
    assert not made.state.reverse.any_port


@pytest.mark.parametrize("kind", ["refuse", "hang"])
def test_while_k3s_does_not_answer_6443_alone_is_rejected(kind: str) -> None:
    """Other ports go on: the child is the same afterwards, and nothing is offered until the path has answered."""
    made = world(seconds=100)
    generation = made.state.reverse.generation
    made.faults.k3s = kind
    made.run_for(10)
    assert not made.dial_hangs()
    assert not made.would_place()
    made.run_for(120)
    assert Purpose.REVERSE in made.sessions
    made.faults.k3s = ""
    made.run_for(10)
    assert made.would_place()
    assert made.state.reverse.generation == generation


def test_fault_72_an_ssh_child_that_is_frozen_is_replaced() -> None:
    made = world(seconds=100)
    generation = made.state.reverse.generation
    made.stop_reverse_session()
    made.run_for(15)
    assert made.state.reverse.generation > generation
    made.run_for(10)
    assert is_any_port(made)
    assert made.would_place()


def test_a_relay_that_refuses_this_machine_for_a_while_gets_a_new_listener() -> None:
    made = world(seconds=100)
    made.faults.relay = "frozen"
    made.run_for(9)
    made.faults.relay = ""
    made.run_for(15)
    assert is_any_port(made)
    assert made.would_place()


def test_a_hairpin_that_breaks_and_comes_back_costs_no_lease() -> None:
    made = world(seconds=100)
    made.faults.hairpin = HairpinFaultKind.BROKEN
    made.run_for(20)
    assert made.state.displayed is DisplayedState.READY
    assert not made.would_place()
    made.faults.hairpin = None
    made.run_for(10)
    assert is_any_port(made)
    assert made.would_place()


def test_addresses_that_are_taken_in_both_forms_are_not_put_down_to_the_port() -> None:
    made = world(seconds=100)
    refused = Fault(FaultKind.BIND, "taken")
    forms = []
    for _ in range(12):
        while made.state.reverse.phase is LinkPhase.DOWN:
            made.run_for(0.1)
        made.feed(LinkEnded(Purpose.REVERSE, made.state.reverse.generation, refused))
        forms.append(made.state.fallback.reason is not None)
    assert True in forms
    assert False in forms[forms.index(True) :], "it stays in the plain form although that is refused, too"


CHANGES: dict[str, Callable[[World], None]] = {
    "k3s": lambda made: setattr(made.faults, "k3s", "hang"),
    "relay": lambda made: setattr(made.faults, "relay", "gone"),
    "hairpin": lambda made: setattr(made.faults, "hairpin", HairpinFaultKind.UNABLE),
    "killed": lambda made: made.kill(Purpose.REVERSE),
    "cut": World.cut,
}


@pytest.mark.parametrize("first", CHANGES)
@pytest.mark.parametrize("second", CHANGES)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happened_work_can_be_placed_again(first: str, second: str, seed: int) -> None:
    made = World(seed, config=Config("1165a9b6", "gpu", connection=Connection.SSH, addresses=ADDRESSES))
    made.watch = invariants
    made.state = replace(made.state, config=replace(made.config, reverse=ReverseMode.AUTO))
    made.config = made.state.config
    made.run_for(20)
    for name in (first, second):
        CHANGES[name](made)
        made.run_for(made.random.uniform(0.1, 40))
    made.faults.k3s = made.faults.relay = ""
    made.faults.hairpin, made.faults.link = None, False
    made.run_for(40)
    assert made.would_place(), made.state.offer
    assert not made.dial_hangs()
    made.run_for(700)
    assert is_any_port(made)
