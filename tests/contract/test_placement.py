"""The contract's rows on what the gateway does with a machine, against stand-in Kubernetes APIs.

Placement, cleanup and health checks are made to come every few milliseconds instead of 1, 60 and 10 s.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.gateway.machines import Pool
from agent.demo.gateway.options import GatewaySettings
from agent.demo.kubernetes.cluster import Cluster
from agent.demo.kubernetes.standin import StandInKubernetes
from tests.contract.caller import Caller
from tests.contract.waiting import wait_until

LABELS = "run.beam.cloud"


@dataclass
class Site:
    """A gateway and the machines that were made for it; every k3s has an address of its own and one port."""

    gateway: EmbeddedGateway
    k3s_port: int
    stack: ExitStack
    lines: list[tuple[str, dict[str, Any]]]
    machines: dict[str, StandInKubernetes] = field(default_factory=dict)

    def machine(self, machine_id: str, gpus: int = 1) -> Caller:
        """A machine whose k3s answers on its own loopback address; not registered yet."""
        host = f"127.71.0.{len(self.machines) + 2}"
        k3s = StandInKubernetes(host, self.k3s_port, cluster=Cluster(gpus=gpus))
        self.machines[machine_id] = self.stack.enter_context(k3s)
        return Caller(self.gateway.port, self.gateway.new_token(), machine_id)

    def ready(self, caller: Caller, **changes: Any) -> None:
        """Register with a token that the machine's k3s has granted, and send a keepalive."""
        k3s = self.machines[caller.machine_id]
        said = {"hostname": k3s.host, "token": k3s.grant()[0], "gpu_count": str(k3s.cluster.gpus)}
        assert caller.register(**(said | changes)).status == 200
        assert caller.keepalive().status == 200

    def workers(self, machine_id: str) -> list[Any]:
        return [w for w in self.gateway.placement.workers() if w.machine_id == machine_id]

    def jobs(self, machine_id: str) -> list[dict[str, Any]]:
        return list(self.machines[machine_id].cluster.jobs.values())

    def counters(self, machine_id: str) -> dict[str, Any]:
        counted: dict[str, Any] = self.gateway.placement.report()["gpu"]["machines"].get(machine_id, {})
        return counted

    def rounds(self, count: int = 3) -> None:
        """Let that many rounds of placement go by."""
        upto = self.gateway.placement.report()["gpu"]["rounds"] + count
        wait_until(lambda: self.gateway.placement.report()["gpu"]["rounds"] >= upto)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        lines: list[tuple[str, dict[str, Any]]] = []
        port = free_port()
        settings = GatewaySettings(
            pools=(Pool(runtime="nvidia"), Pool("cpu-only", gpu_type="", worker_gpu_count=0)),
            k3s_port=port,
            demand=100,
            placement_interval_s=0.02,
            cleanup_interval_s=0.02,
            health_interval_s=0.02,
        )
        gateway = EmbeddedGateway(settings, lambda text, fields: lines.append((text, dict(fields))))
        stack.enter_context(gateway)
        yield Site(gateway, port, stack, lines)


@pytest.fixture
def one(site: Site) -> Caller:
    return site.machine("aaaaaaaa")


def test_work_comes_to_a_ready_machine(site: Site, one: Caller) -> None:
    site.ready(one)
    wait_until(lambda: site.jobs("aaaaaaaa"))
    assert site.gateway.would_place("aaaaaaaa") == (True, "ready, and capacity is offered")


def test_the_job_is_as_the_gateway_makes_it(site: Site, one: Caller) -> None:
    site.ready(one)
    wait_until(lambda: site.jobs("aaaaaaaa"))
    job = site.jobs("aaaaaaaa")[0]
    name, labels = job["metadata"]["name"], job["metadata"]["labels"]
    worker_id = labels[f"{LABELS}/worker-id"]
    assert name == f"worker-gpu-{worker_id}"
    assert len(worker_id) == 8
    assert (labels["app"], labels[f"{LABELS}/role"]) == ("worker", "worker")
    assert labels[f"{LABELS}/worker-pool-name"] == "gpu"
    assert labels[f"{LABELS}/machine-id"] == "aaaaaaaa"
    assert job["metadata"]["namespace"] == "default"
    assert job["spec"]["ttlSecondsAfterFinished"] == 30


def test_the_workers_pod_is_privileged_and_holds_the_gateways_secrets(site: Site, one: Caller) -> None:
    site.ready(one)
    wait_until(lambda: site.jobs("aaaaaaaa"))
    pod = site.jobs("aaaaaaaa")[0]["spec"]["template"]["spec"]
    assert (pod["hostNetwork"], pod["restartPolicy"]) == (True, "OnFailure")
    assert (pod["dnsPolicy"], pod["runtimeClassName"]) == ("ClusterFirstWithHostNet", "nvidia")
    paths = {v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v}
    assert paths == {"/images", "/var/log/worker"}
    assert [v["emptyDir"]["medium"] for v in pod["volumes"] if v["name"] == "dshm"] == ["Memory"]
    (container,) = pod["containers"]
    assert container["command"] == ["/usr/local/bin/worker"]
    assert container["securityContext"] == {"privileged": True}
    assert container["resources"] == {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["BETA9_GATEWAY_PORT"] == "443"
    assert {"WORKER_TOKEN", "POD_HOSTNAME", "BETA9_GATEWAY_HOST"} <= set(environment)
    assert site.gateway.state.config is not None
    assert all(secret in environment["CONFIG_JSON"] for secret in site.gateway.state.config.secrets())


def test_only_jobs_and_pods_of_the_default_namespace_are_asked_for(site: Site, one: Caller) -> None:
    site.ready(one)
    wait_until(lambda: [w.status for w in site.workers("aaaaaaaa")] == ["available"])
    asked = {(method, path) for _, method, path in list(site.machines["aaaaaaaa"].requests)}
    assert asked == {
        ("POST", "/apis/batch/v1/namespaces/default/jobs"),
        ("GET", "/apis/batch/v1/namespaces/default/jobs"),
        ("GET", "/api/v1/namespaces/default/pods"),
    }


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


@pytest.mark.parametrize("keepalive", [True, False])
def test_a_pool_is_degraded_if_its_last_machine_registers_and_sends_no_keepalive(
    site: Site, one: Caller, keepalive: bool
) -> None:
    site.gateway.placement.set_demand("gpu", 0)
    site.ready(one)
    wait_until(lambda: site.gateway.health.healthy.get("gpu") is True)
    site.gateway.health.stop()  # from here on it is checked when the test says so
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


def test_a_worker_whose_job_is_gone_is_forgotten_and_another_comes(site: Site, one: Caller) -> None:
    site.ready(one)
    wait_until(lambda: site.workers("aaaaaaaa"))
    first = site.workers("aaaaaaaa")[0]
    site.machines["aaaaaaaa"].cluster.delete_job("default", first.job_name)
    wait_until(lambda: site.workers("aaaaaaaa") and first not in site.workers("aaaaaaaa"))


def test_deleting_a_machine_leaves_its_jobs(site: Site, one: Caller) -> None:
    site.ready(one)
    wait_until(lambda: site.jobs("aaaaaaaa"))
    site.gateway.delete_machine("aaaaaaaa")
    wait_until(lambda: not site.workers("aaaaaaaa"))
    assert len(site.jobs("aaaaaaaa")) == 1


def test_stopping_the_gateway_ends_a_dial_that_hangs(site: Site, one: Caller) -> None:
    site.machines["aaaaaaaa"].freeze()
    site.ready(one)
    hangs: Callable[[], object] = lambda: site.gateway.placement.report()["gpu"]["dialling"]  # noqa: E731
    wait_until(hangs)
    site.gateway.stop()
    wait_until(lambda: not hangs())
