"""Machines' names: whose a name is, and at which of its addresses the machine is."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from agent.core.relay.names import (
    Listener,
    as_dialled,
    current_address,
    machine_of,
    parse_domain,
    sightings,
)
from agent.core.relay.zone import Pods, machine_address
from agent.core.tunnel.addresses import candidates

DOMAIN = "beta9.tailnet.example"
MACHINE = "1165a9b6"
FIRST, SECOND, THIRD, _ = candidates(MACHINE)
OTHER = candidates("00000000")[0]


@pytest.mark.parametrize(
    ("name", "machine_id"),
    [
        (f"machine-{MACHINE}.{DOMAIN}", MACHINE),
        (f"machine-{MACHINE}.other.example", None),
        (f"machine-{MACHINE}.sub.{DOMAIN}", None),
        (f"machine-{MACHINE}", None),
        (f"machine-{MACHINE}0.{DOMAIN}", None),
        (f"machine-1165a9bg.{DOMAIN}", None),
        (f"xmachine-{MACHINE}.{DOMAIN}", None),
        (f"machine-.{DOMAIN}", None),
        (DOMAIN, None),
        ("", None),
    ],
)
def test_only_machines_names_stand_for_machines(name: str, machine_id: str | None) -> None:
    assert machine_of(name, DOMAIN) == machine_id


@pytest.mark.parametrize(
    ("text", "domain"),
    [(DOMAIN, DOMAIN), ("Beta9.Tailnet.Example.", DOMAIN), ("user_1.hs", "user_1.hs")],
)
def test_a_domain_is_spelled_in_one_way(text: str, domain: str) -> None:
    assert parse_domain(text) == domain


@pytest.mark.parametrize(
    "text", ["", "example", "*.example", "a..b", "-a.example", "a b.c", "x" * 64 + ".y", "a." * 120]
)
def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"tailscale\.user"):
        parse_domain(text)


def current(*looks: list[Listener], silent: tuple[str, ...] = ()) -> str | None:
    """Return the machine's address after these looks at who listens, one second apart."""
    seen: dict[Listener, float] = {}
    for now_s, listening in enumerate(looks):
        seen = sightings(seen, listening, float(now_s))
    return current_address(MACHINE, seen, lambda address: address in silent)


@pytest.mark.parametrize("port", [1080, 6443, 29443])
def test_a_machine_is_where_it_listens_in_any_form(port: int) -> None:
    assert current([Listener(SECOND, port, 7), Listener(OTHER, port, 8)]) == SECOND


@pytest.mark.parametrize(
    "listening",
    [
        [],
        [Listener(OTHER, 1080, 1)],
        [Listener(FIRST, 22, 1)],
        [Listener("0.0.0.0", 6443, 1), Listener("127.0.0.1", 1080, 2)],
    ],
    ids=["nobody", "another machine", "another port", "the host itself"],
)
def test_a_machine_that_is_not_connected_has_no_address(listening: list[Listener]) -> None:
    assert current(listening) is None


def test_after_a_cut_the_machine_is_where_it_came_last() -> None:
    """The dead session's listener stays until sshd ends it; a fixed line in a hosts file was wrong for minutes."""
    dead, alive = Listener(FIRST, 1080, 90), Listener(SECOND, 1080, 20)
    assert current([dead], [dead, alive]) == SECOND
    assert current([dead], [dead, alive], [alive]) == SECOND
    # Back at the first one later: a new socket, whatever its number.
    again = Listener(FIRST, 1080, 10)
    assert current([dead], [dead, alive], [alive, again]) == FIRST


def test_a_machine_that_falls_back_to_the_plain_form_is_found_there() -> None:
    dead, plain = Listener(FIRST, 1080, 90), Listener(SECOND, 6443, 20)
    assert current([dead], [dead, plain]) == SECOND


def test_of_two_that_were_there_first_the_silent_one_is_the_dead_one() -> None:
    """A relay that has just started cannot know which came last: the higher number is a guess, silence settles it."""
    both = [Listener(FIRST, 1080, 20), Listener(SECOND, 1080, 90)]
    assert current(both) == SECOND
    assert current(both, silent=(SECOND,)) == FIRST
    assert current(both, silent=(FIRST, SECOND)) == SECOND


def test_a_silent_machine_keeps_its_name() -> None:
    """Its dials are refused by the relay; a name that comes and goes would only hide that."""
    assert current([Listener(FIRST, 1080, 1)], silent=(FIRST,)) == FIRST


def test_gateway_pods_dial_the_same_machine_in_their_own_range() -> None:
    pods = Pods(IPv4Network("100.64.0.0/10"), IPv4Network("10.42.0.0/16"))
    assert as_dialled(FIRST, None) == FIRST
    assert as_dialled("127.86.127.219", pods) == "100.86.127.219"
    assert machine_address(as_dialled(FIRST, pods), pods) == FIRST
