"""The Job that starts a worker on a machine, as the gateway sends it. No I/O.

The real gateway sends protobuf; this is the same object as JSON, which the API server accepts as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.demo.gateway.machines import Pool

NAMESPACE = "default"
ROLE_LABEL = "run.beam.cloud/role"
POOL_LABEL = "run.beam.cloud/worker-pool-name"
WORKER_LABEL = "run.beam.cloud/worker-id"
MACHINE_LABEL = "run.beam.cloud/machine-id"


@dataclass(frozen=True)
class Worker:
    """A worker that the gateway has placed, and the resources that it uses."""

    worker_id: str
    machine_id: str
    machine_key: str
    pool_name: str
    cpu_millicores: int
    memory_mib: int
    gpu_count: int
    status: str = "pending"
    """`pending`, `available` once its pod runs, `disabled` if its pool became degraded before that."""
    token: str = field(default="", repr=False)

    @property
    def job_name(self) -> str:
        """The name of its Job."""
        return f"worker-{self.pool_name}-{self.worker_id}"


def job_selector(pool_name: str) -> str:
    """Return the label selector with which the gateway lists a pool's Jobs."""
    return f"{ROLE_LABEL}=worker,{POOL_LABEL}={pool_name}"


def worker_job(
    worker: Worker, pool: Pool, gateway_host: str, domain: str, config: Mapping[str, object]
) -> dict[str, object]:
    """Return the Job. Its environment holds `config` with all its secrets, as on a real gateway.

    `domain`: where the gateway dials machines by name.
    """
    labels = {
        "app": "worker",
        ROLE_LABEL: "worker",
        POOL_LABEL: pool.name,
        WORKER_LABEL: worker.worker_id,
        MACHINE_LABEL: worker.machine_id,
    }
    spec: dict[str, object] = {
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "restartPolicy": "OnFailure",
        "enableServiceLinks": False,
        "containers": [_container(worker, pool, gateway_host, domain, config)],
        "volumes": [
            {"name": "images", "hostPath": {"path": "/images", "type": "DirectoryOrCreate"}},
            {"name": "logs", "hostPath": {"path": "/var/log/worker", "type": "DirectoryOrCreate"}},
            {
                "name": "dshm",
                "emptyDir": {"medium": "Memory", "sizeLimit": f"{max(1, worker.memory_mib // 2)}Mi"},
            },
        ],
    }
    if pool.runtime:
        spec["runtimeClassName"] = pool.runtime
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": worker.job_name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "ttlSecondsAfterFinished": 30,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def _container(
    worker: Worker, pool: Pool, gateway_host: str, domain: str, config: Mapping[str, object]
) -> dict[str, object]:
    environment = {
        "WORKER_ID": worker.worker_id,
        "WORKER_POOL_NAME": pool.name,
        "WORKER_TOKEN": worker.token,
        "CPU_LIMIT": str(worker.cpu_millicores),
        "MEMORY_LIMIT": str(worker.memory_mib),
        "GPU_TYPE": pool.gpu_type,
        "GPU_COUNT": str(worker.gpu_count),
        "POD_NAMESPACE": NAMESPACE,
        "POD_HOSTNAME": f"machine-{worker.machine_id}.{domain}",
        "NETWORK_PREFIX": worker.machine_id,
        "BETA9_GATEWAY_HOST": gateway_host,
        "BETA9_GATEWAY_PORT": "443",
        "CONFIG_JSON": json.dumps(config, indent=2),
    }
    gpus = {"nvidia.com/gpu": str(worker.gpu_count)} if pool.gpu_type else {}
    return {
        "name": "worker",
        "image": "registry.example/beta9-worker:demo",
        "command": ["/usr/local/bin/worker"],
        "securityContext": {"privileged": True},
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": {"requests": gpus, "limits": gpus},
        "volumeMounts": [
            {"name": "images", "mountPath": "/images"},
            {"name": "logs", "mountPath": "/var/log/worker"},
            {"name": "dshm", "mountPath": "/dev/shm"},  # noqa: S108 - inside the pod
        ],
    }
