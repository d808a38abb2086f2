"""Fault rows 8 and 9: nothing gets through for a minute, both ways or one way, for agents on the far end of a wire."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.integration.bounds import within
from tests.integration.lab import SSH_PORT, AgentProcess, Lab, laboratory
from tests.integration.netns import wire
from tests.integration.told import Tell
from tests.integration.watching import known_at

OUTAGE_S = 60
OUTWARD_PORT, INWARD_PORT = SSH_PORT + 1, SSH_PORT + 2


@dataclass
class Outage:
    """What one agent went through; seconds from the cut (`noticed_s`) and from the heal (`back_s`)."""

    agent: AgentProcess
    noticed_s: float | None = None
    back_s: float | None = None

    def look(self, began_s: float, healed_s: float | None) -> None:
        """Note what has become true."""
        up = self.agent.status()["tunnel"]["up"]
        if self.noticed_s is None and not up:
            self.noticed_s = time.monotonic() - began_s
        if healed_s is not None and self.back_s is None and up and self.agent.is_back():
            self.back_s = time.monotonic() - healed_s


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, dict[str, list[Outage]]]]:
    """Five agents; for a minute nothing gets through for three, nothing out for one, nothing in for one."""
    ports = {"both": SSH_PORT, "outward": OUTWARD_PORT, "inward": INWARD_PORT}
    options = {"Port": [str(port) for port in ports.values()]}
    with ExitStack() as stack:
        net = stack.enter_context(wire())
        directory = tmp_path_factory.mktemp("outage")
        lab = stack.enter_context(laboratory(directory, near=net.near, far=net.far, sshd_options=options))
        seen: dict[str, list[Outage]] = {name: [] for name in ports}
        for name in ("both", "both", "both", "outward", "inward"):
            agent = lab.agent(**known_at(lab, ports[name])).start()
            agent.wait_back()
            seen[name].append(Outage(agent))
        everyone = [one for several in seen.values() for one in several]
        with ExitStack() as rules:
            rules.enter_context(net.dropped(port=ports["both"]))
            rules.enter_context(net.dropped(port=ports["outward"], inward=False))
            rules.enter_context(net.dropped(port=ports["inward"], outward=False))
            began_s = time.monotonic()
            while time.monotonic() - began_s < OUTAGE_S:
                for one in everyone:
                    one.look(began_s, None)
        healed_s = time.monotonic()
        while any(one.back_s is None for one in everyone) and time.monotonic() - healed_s < 30:
            for one in everyone:
                one.look(began_s, healed_s)
        yield lab, seen


def judge_outage(lab: Lab, outages: list[Outage]) -> str:
    """Noticed, back and not registered again, each; what to tell."""
    for one in outages:
        assert one.noticed_s is not None
        assert one.back_s is not None
        assert one.noticed_s <= within(15)
        assert one.back_s <= within(10)
        assert one.agent.status()["registration"]["times"] == 1
        assert lab.gateway.status(one.agent.machine_id) == "ready"
        assert lab.gateway.would_place(one.agent.machine_id)[0]
    noticed = ", ".join(f"{one.noticed_s:.1f}" for one in outages)
    back = ", ".join(f"{one.back_s:.1f}" for one in outages)
    return f"noticed after {noticed} s, back {back} s after the heal, no new registration"


@pytest.mark.fault(8)
@pytest.mark.xdist_group("outage")
@pytest.mark.timeout(240)
def test_fault_08_both_ways_dropped_for_a_minute(
    outage: tuple[Lab, dict[str, list[Outage]]], tell: Tell
) -> None:
    """Three agents at once; that half of all outages end within 4 s is shown over sixty simulated ones
    (tests/unit/core/tunnel/test_outages.py), since three say little about a median."""
    lab, seen = outage
    said = judge_outage(lab, seen["both"])
    took_s = statistics.median(one.back_s or 0.0 for one in seen["both"])
    tell(said, took_s)


@pytest.mark.fault(9)
@pytest.mark.xdist_group("outage")
@pytest.mark.timeout(240)
def test_fault_09_one_way_dropped_each_direction(
    outage: tuple[Lab, dict[str, list[Outage]]], tell: Tell
) -> None:
    lab, seen = outage
    outward, inward = judge_outage(lab, seen["outward"]), judge_outage(lab, seen["inward"])
    took_s = max(one.back_s or 0.0 for one in seen["outward"] + seen["inward"])
    tell(f"nothing out: {outward}; nothing in: {inward}", took_s)
