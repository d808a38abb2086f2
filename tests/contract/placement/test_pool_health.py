"""The gateway's contract: pools with a machine that is degraded, refuses connections or hangs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.contract.caller import Caller
from tests.contract.placement.placement_site import Site
from tests.contract.waiting import wait_until


@pytest.mark.parametrize("keepalive", [True, False])
def test_a_pool_is_degraded_if_its_last_machine_registers_and_sends_no_keepalive(
    site: Site, one: Caller, keepalive: bool
) -> None:
    site.gateway.placement.set_demand("gpu", 0)
    site.ready(one)
    wait_until(lambda: site.gateway.health.healthy.get("gpu") is True)
    site.gateway.health.stop()  # from here on only the test runs the check
    one.register()
    if keepalive:
        one.keepalive()
    site.gateway.health.check()
    assert site.gateway.health.healthy["gpu"] is keepalive


def test_becoming_degraded_disables_workers_that_have_not_started_and_says_so(
    site: Site, one: Caller
) -> None:
    site.machines["aaaaaaaa"].cluster.unschedulable = True  # so that the pod stays Pending
    site.ready(one)
    wait_until(lambda: ("pool is healthy", {"pool_name": "gpu"}) in site.lines)
    wait_until(lambda: [w.status for w in site.workers("aaaaaaaa")] == ["pending"])
    one.register()
    wait_until(lambda: [w.status for w in site.workers("aaaaaaaa")] == ["disabled"])
    assert "pool is degraded" in [text for text, _ in site.lines]


def test_a_refused_dial_is_tried_again_and_leaks_a_worker_token_each_time(site: Site, one: Caller) -> None:
    site.machines["aaaaaaaa"].refuse()
    site.ready(one)
    wait_until(lambda: site.counters("aaaaaaaa").get("leaked_worker_tokens", 0) >= 3)
    assert "refused" in site.counters("aaaaaaaa")["last_error"]
    site.machines["aaaaaaaa"].listen()
    wait_until(lambda: site.jobs("aaaaaaaa"))


def test_a_token_that_k3s_refuses_leaks_worker_tokens_too(site: Site, one: Caller) -> None:
    site.ready(one, token=one.token)  # the mistake of some guides: the machine token where k3s's should be
    wait_until(lambda: site.counters("aaaaaaaa").get("leaked_worker_tokens", 0) >= 2)
    assert site.counters("aaaaaaaa")["last_error"].endswith("401")
    assert site.jobs("aaaaaaaa") == []


def test_one_refused_machine_does_no_harm_to_its_pool(site: Site, one: Caller) -> None:
    site.machines["aaaaaaaa"].refuse()
    site.ready(one)
    site.ready(site.machine("bbbbbbbb"))
    wait_until(lambda: site.jobs("bbbbbbbb"))


def test_one_machine_that_hangs_stops_its_whole_pool_until_the_dial_ends(site: Site, one: Caller) -> None:
    frozen = site.machines["aaaaaaaa"]
    frozen.freeze()
    site.ready(one)
    wait_until(lambda: site.gateway.placement.report()["gpu"]["dialling"] == "aaaaaaaa")
    rounds = site.gateway.placement.report()["gpu"]["rounds"]
    site.ready(site.machine("bbbbbbbb"))
    other_pool = site.machine("cccccccc")
    other_pool.register(hostname=site.machines["cccccccc"].host, pool_name="cpu-only")
    other_pool.keepalive(pool_name="cpu-only")
    wait_until(lambda: site.gateway.placement.report()["cpu-only"]["rounds"] > 20)
    assert site.gateway.placement.report()["gpu"]["rounds"] == rounds
    assert site.gateway.placement.report()["gpu"]["dialling_for_s"] > 0
    assert site.jobs("bbbbbbbb") == []
    frozen.refuse()  # what ending the reverse path does to the dial
    wait_until(lambda: site.jobs("bbbbbbbb"))


def test_a_stalled_pool_still_takes_registrations_and_keepalives(site: Site, one: Caller) -> None:
    site.machines["aaaaaaaa"].freeze()
    site.ready(one)
    wait_until(lambda: site.gateway.placement.report()["gpu"]["dialling"] == "aaaaaaaa")
    assert one.keepalive().status == 200
    assert replace(one, machine_id="dddddddd").register().status == 200


def test_stopping_the_gateway_ends_a_dial_that_hangs(site: Site, one: Caller) -> None:
    site.machines["aaaaaaaa"].freeze()
    site.ready(one)
    hangs: Callable[[], object] = lambda: site.gateway.placement.report()["gpu"]["dialling"]  # noqa: E731
    wait_until(hangs)
    site.gateway.stop()
    wait_until(lambda: not hangs())
