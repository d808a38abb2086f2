"""Fault rows 8 and 9: for a minute no packets get through, in both directions or in one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.integration.agent_process import AgentProcess
from tests.integration.bounds import within
from tests.integration.fault_report import Report
from tests.integration.lab import SSH_PORT, Lab, laboratory
from tests.integration.netns import wire
from tests.integration.tunnel_watch import settings_for_port

OUTAGE_S = 60
OUTWARD_PORT, INWARD_PORT = SSH_PORT + 1, SSH_PORT + 2


@dataclass
class Outage:
    """One agent's times: seconds from the cut until it noticed, and from the heal until it was back."""

    agent: AgentProcess
    noticed_s: float | None = None
    back_s: float | None = None

    def observe(self, began_s: float, healed_s: float | None) -> None:
        """Record the times of what has happened since the last call."""
        up = self.agent.status()["tunnel"]["up"]
        if self.noticed_s is None and not up:
            self.noticed_s = time.monotonic() - began_s
        if healed_s is not None and self.back_s is None and up and self.agent.is_back():
            self.back_s = time.monotonic() - healed_s


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, dict[str, list[Outage]]]]:
    """Five agents after a minute's outage: both directions for three, only outward for one, only inward for one."""
    ports = {"both": SSH_PORT, "outward": OUTWARD_PORT, "inward": INWARD_PORT}
    options = {"Port": [str(port) for port in ports.values()]}
    with ExitStack() as stack:
        net = stack.enter_context(wire())
        directory = tmp_path_factory.mktemp("outage")
        lab = stack.enter_context(laboratory(directory, near=net.near, far=net.far, sshd_options=options))
        outages: dict[str, list[Outage]] = {name: [] for name in ports}
        for name in ("both", "both", "both", "outward", "inward"):
            agent = lab.agent(**settings_for_port(lab, ports[name])).start()
            agent.wait_back()
            outages[name].append(Outage(agent))
        everyone = [one for several in outages.values() for one in several]
        with ExitStack() as rules:
            rules.enter_context(net.dropped(port=ports["both"]))
            rules.enter_context(net.dropped(port=ports["outward"], inward=False))
            rules.enter_context(net.dropped(port=ports["inward"], outward=False))
            began_s = time.monotonic()
            while time.monotonic() - began_s < OUTAGE_S:
                for one in everyone:
                    one.observe(began_s, None)
        healed_s = time.monotonic()
        while any(one.back_s is None for one in everyone) and time.monotonic() - healed_s < 30:
            for one in everyone:
                one.observe(began_s, healed_s)
        yield lab, outages


def check_outages(lab: Lab, outages: list[Outage]) -> str:
    """Assert that each was noticed in time, is back and has not registered again; return a summary."""
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
    outage: tuple[Lab, dict[str, list[Outage]]], report: Report
) -> None:
    """Three agents at once.

    They are too few for the median of 4 s, which tests/unit/core/tunnel/test_outages.py asserts over sixty simulations.
    """
    lab, outages = outage
    summary = check_outages(lab, outages["both"])
    took_s = statistics.median(one.back_s or 0.0 for one in outages["both"])
    report(summary, took_s)


@pytest.mark.fault(9)
@pytest.mark.xdist_group("outage")
@pytest.mark.timeout(240)
def test_fault_09_one_way_dropped_each_direction(
    outage: tuple[Lab, dict[str, list[Outage]]], report: Report
) -> None:
    lab, outages = outage
    outward, inward = check_outages(lab, outages["outward"]), check_outages(lab, outages["inward"])
    took_s = max(one.back_s or 0.0 for one in outages["outward"] + outages["inward"])
    report(f"nothing out: {outward}; nothing in: {inward}", took_s)
