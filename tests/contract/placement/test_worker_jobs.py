"""The gateway's contract: the Jobs that the gateway creates on a machine."""

from __future__ import annotations

import time

from tests.contract.caller import Caller
from tests.contract.placement.placement_site import Site
from tests.contract.waiting import wait_until

LABELS = "run.beam.cloud"


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


def test_a_worker_whose_job_is_gone_is_forgotten_and_another_comes(site: Site, one: Caller) -> None:
    site.ready(one)
    wait_until(lambda: site.workers("aaaaaaaa"))
    first = site.workers("aaaaaaaa")[0]
    site.machines["aaaaaaaa"].cluster.delete_job("default", first.job_name, time.time())
    wait_until(lambda: site.workers("aaaaaaaa") and first not in site.workers("aaaaaaaa"))


def test_a_worker_whose_job_is_over_is_forgotten_although_the_job_is_still_there(
    site: Site, one: Caller
) -> None:
    site.ready(one)
    wait_until(lambda: site.workers("aaaaaaaa"))
    (first,) = site.workers("aaaaaaaa")
    site.machines["aaaaaaaa"].cluster.finish_job("default", first.job_name, time.time())
    wait_until(lambda: site.workers("aaaaaaaa") and first not in site.workers("aaaaaaaa"))
    assert first.job_name in [job["metadata"]["name"] for job in site.jobs("aaaaaaaa")]


def test_a_job_between_two_pods_still_counts_until_its_worker_s_state_has_run_out(
    site: Site, one: Caller
) -> None:
    """Then another worker is placed, although the first one's Job is about to make a pod again."""
    site.ready(one)
    wait_until(lambda: [w.status for w in site.workers("aaaaaaaa")] == ["available"])
    (first,), cluster = site.workers("aaaaaaaa"), site.machines["aaaaaaaa"].cluster
    cluster.controller.backoff_s = 3600.0
    ((_, pod),) = cluster.pods
    cluster.end_pod("default", pod, time.time(), 0)
    site.rounds(10)
    assert [w.worker_id for w in site.workers("aaaaaaaa")] == [first.worker_id]
    site.clock_ahead_s[0] = 61.0
    wait_until(lambda: first.worker_id not in [w.worker_id for w in site.workers("aaaaaaaa")])
    wait_until(lambda: len(site.jobs("aaaaaaaa")) == 2)


def test_deleting_a_machine_leaves_its_jobs(site: Site, one: Caller) -> None:
    site.ready(one)
    wait_until(lambda: site.jobs("aaaaaaaa"))
    site.gateway.delete_machine("aaaaaaaa")
    wait_until(lambda: not site.workers("aaaaaaaa"))
    assert len(site.jobs("aaaaaaaa")) == 1
