"""The gateway's contract: the capacity that a machine offers, and how many workers it gets."""

from __future__ import annotations

import pytest

from tests.contract.caller import Caller
from tests.contract.placement.placement_site import Site
from tests.contract.waiting import wait_until


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cpu": "0m", "memory": "0Mi"}, "no cpu or memory is offered"),
        ({"gpu_count": "0"}, "no GPU in a GPU pool"),
        ({"cpu": "8"}, None),  # eight millicores: too small for a worker, though something is offered
    ],
)
def test_a_ready_machine_that_offers_too_little_gets_no_work(
    site: Site, one: Caller, changes: dict[str, str], reason: str | None
) -> None:
    site.ready(one, **changes)
    site.rounds()
    assert site.jobs("aaaaaaaa") == []
    if reason:
        assert site.gateway.would_place("aaaaaaaa") == (False, reason)


def test_a_machine_that_is_only_registered_gets_no_work(site: Site, one: Caller) -> None:
    k3s = site.machines["aaaaaaaa"]
    one.register(hostname=k3s.host, token=k3s.grant()[0])
    site.rounds()
    assert site.jobs("aaaaaaaa") == []
    assert site.gateway.would_place("aaaaaaaa") == (False, "status is registered")


def test_a_pool_without_gpus_needs_none(site: Site, one: Caller) -> None:
    k3s = site.machines["aaaaaaaa"]
    one.register(hostname=k3s.host, token=k3s.grant()[0], pool_name="cpu-only", gpu_count="0")
    one.keepalive(pool_name="cpu-only")
    wait_until(lambda: site.jobs("aaaaaaaa"))
    container = site.jobs("aaaaaaaa")[0]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"] == {"requests": {}, "limits": {}}


def test_with_one_gpu_the_first_worker_gets_everything(site: Site, one: Caller) -> None:
    site.ready(one, cpu="8000m", memory="16384Mi")
    wait_until(lambda: site.workers("aaaaaaaa"))
    site.rounds()
    (worker,) = site.workers("aaaaaaaa")
    assert (worker.cpu_millicores, worker.memory_mib, worker.gpu_count) == (8000, 16384, 1)


def test_a_machine_is_filled_one_worker_a_round(site: Site) -> None:
    site.ready(site.machine("aaaaaaaa", gpus=4))
    wait_until(lambda: len(site.jobs("aaaaaaaa")) == 4)
    site.rounds()
    assert len(site.jobs("aaaaaaaa")) == 4


def test_no_more_workers_come_than_are_wanted(site: Site) -> None:
    site.gateway.placement.set_demand("gpu", 2)
    site.ready(site.machine("aaaaaaaa", gpus=4))
    wait_until(lambda: len(site.jobs("aaaaaaaa")) == 2)
    site.rounds()
    assert len(site.jobs("aaaaaaaa")) == 2


def test_a_gpu_count_lowered_below_what_workers_hold_wraps_and_more_work_comes(site: Site) -> None:
    caller = site.machine("aaaaaaaa", gpus=2)
    site.ready(caller)
    wait_until(lambda: len(site.jobs("aaaaaaaa")) == 2)
    site.ready(caller, gpu_count="1")
    site.gateway.placement.set_demand("gpu", 3)
    wait_until(lambda: len(site.jobs("aaaaaaaa")) == 3)


def test_registering_with_no_capacity_stops_new_work_and_leaves_workers_alone(site: Site) -> None:
    caller = site.machine("aaaaaaaa", gpus=8)
    site.gateway.placement.set_demand("gpu", 2)
    site.ready(caller)
    wait_until(lambda: [w.status for w in site.workers("aaaaaaaa")] == ["available"] * 2)
    site.ready(caller, cpu="0m", memory="0Mi")
    site.gateway.placement.set_demand("gpu", 8)
    site.rounds(10)
    assert [w.status for w in site.workers("aaaaaaaa")] == ["available"] * 2
    assert site.gateway.health.healthy["gpu"] is True


def test_registering_without_a_keepalive_stops_new_work(site: Site) -> None:
    caller = site.machine("aaaaaaaa", gpus=2)
    site.ready(caller, cpu="0m", memory="0Mi")
    caller.register(hostname=site.machines["aaaaaaaa"].host, gpu_count="2")
    site.rounds()
    assert site.jobs("aaaaaaaa") == []
