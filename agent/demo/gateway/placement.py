"""Placement: starts workers on machines as the gateway does, and watches their Jobs.

As in the real gateway, every second each machine gets at most one worker that fits, until the pool has as many as it
wants; a dial that hangs stalls the whole pool; a failed dial is retried a second later and leaks a worker token. One
thread per pool places workers, another one lists Jobs. A worker is forgotten when its machine or Job is gone, when the
Job is over, or once no pod of it has run for `worker_ttl_s`; a pod that its Job makes later does not bring it back. A
Job between two pods is not over: until then its worker still counts. Jobs are never deleted.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from agent.demo.dial import DialError, Dialler
from agent.demo.gateway.machines import READY, Machine, Pool
from agent.demo.gateway.options import GatewaySettings, Log
from agent.demo.gateway.routes import GatewayState
from agent.demo.gateway.tokens import TokenKind, new_token
from agent.demo.gateway.worker_job import NAMESPACE, WORKER_LABEL, Worker, job_selector, worker_job

JOBS_PATH = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PODS_PATH = f"/api/v1/namespaces/{NAMESPACE}/pods"
UINT32 = 2**32


@dataclass
class MachineCounters:
    """Counts the dials to one machine and their outcomes."""

    placed: int = 0
    failed: int = 0
    leaked_worker_tokens: int = 0
    """A token is created before the dial and stays in the database if the dial fails."""
    last_error: str = ""


@dataclass
class PoolCounters:
    """`dialling` is the machine being dialled since `dialling_since_s`, None if there is none."""

    wanted: int = 0
    rounds: int = 0
    """Completed rounds of placement."""
    dialling: str | None = None
    dialling_since_s: float = 0.0
    machines: dict[str, MachineCounters] = field(default_factory=dict)

    def of(self, machine_id: str) -> MachineCounters:
        """Return the counters of one machine."""
        return self.machines.setdefault(machine_id, MachineCounters())


def worker_that_fits(machine: Machine, pool: Pool, held: tuple[Worker, ...]) -> Worker | None:
    """Return the next worker for a machine that already runs `held`, or None if none fits.

    As in the gateway, GPUs are subtracted as unsigned 32-bit numbers, so a machine that reports fewer than are in use
    seems to have billions free; and a machine with one GPU gives its first worker all CPU and memory.
    """
    if machine.status != READY or machine.provider != pool.provider or machine.gpu_type != pool.gpu_type:
        return None
    cpu = machine.cpu_millicores - sum(worker.cpu_millicores for worker in held)
    memory = machine.memory_mib - sum(worker.memory_mib for worker in held)
    gpus = (machine.gpu_count - sum(worker.gpu_count for worker in held)) % UINT32
    wanted_gpus = pool.worker_gpu_count if pool.gpu_type else 0
    if cpu < pool.worker_cpu_millicores or memory < pool.worker_memory_mib or gpus < wanted_gpus:
        return None
    fitting = Worker(
        worker_id=secrets.token_hex(4),
        machine_id=machine.machine_id,
        machine_key=machine.key,
        pool_name=pool.name,
        cpu_millicores=pool.worker_cpu_millicores,
        memory_mib=pool.worker_memory_mib,
        gpu_count=wanted_gpus,
    )
    if machine.gpu_count == 1:
        return replace(
            fitting, cpu_millicores=machine.cpu_millicores, memory_mib=machine.memory_mib, gpu_count=1
        )
    return fitting


class Placement:
    """The threads that place and watch workers, and their counters."""

    def __init__(self, state: GatewayState, settings: GatewaySettings, log: Log) -> None:
        self._state, self._settings, self._log = state, settings, log
        self._workers: dict[str, Worker] = {}
        self._known: dict[str, Worker] = {}
        """Those and the ones whose Job is being created, with their tokens."""
        self._alive_at_s: dict[str, float] = {}
        """When a pod of each worker was last seen running."""
        self._pools = {name: PoolCounters(settings.demand) for name in state.pools}
        self._stopped = threading.Event()
        self._diallers: list[Dialler] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start two threads per pool."""
        self._stopped = threading.Event()
        for pool in self._state.pools.values():
            self._run(self.place, pool, self._settings.placement_interval_s)
            self._run(self.watch, pool, self._settings.cleanup_interval_s)

    def stop(self) -> None:
        """End the dials in progress and the threads."""
        self._stopped.set()
        for dialler in self._diallers:
            dialler.end()
        for thread in self._threads:
            thread.join(timeout=1)  # one that is still connecting ends with the kernel's timeout
        self._diallers, self._threads = [], []

    def set_demand(self, pool_name: str, wanted: int) -> None:
        """Set how many workers the pool wants; lowering it removes none. Raises: KeyError for an unknown pool."""
        self._pools[pool_name].wanted = wanted

    def workers(self, pool_name: str | None = None) -> tuple[Worker, ...]:
        """Return the placed workers, of one pool or of all."""
        with self._state.lock:
            return tuple(w for w in self._workers.values() if pool_name in {None, w.pool_name})

    def worker_of(self, worker_id: str, token: str) -> Worker:
        """Return a worker that shows its token. Raises: PermissionError."""
        with self._state.lock:
            worker = self._known.get(worker_id)
        if worker is None or not secrets.compare_digest(worker.token, token):
            raise PermissionError(f"no such worker: {worker_id}")
        return worker

    def wipe(self) -> None:
        """Forget every worker."""
        with self._state.lock:
            self._workers.clear()
            self._known.clear()

    def disable_pending(self, pool_name: str) -> None:
        """Disable the workers that have not started, as when a pool becomes degraded."""
        with self._state.lock:
            for worker in self.workers(pool_name):
                if worker.status == "pending":
                    self._workers[worker.worker_id] = replace(worker, status="disabled")

    def report(self) -> dict[str, Any]:
        """Return for each pool its demand, the dial in progress with its age, and the counters of each machine."""
        now_s = self._state.clock()
        with self._state.lock:
            return {
                name: {
                    **asdict(counters),
                    "dialling_for_s": now_s - counters.dialling_since_s if counters.dialling else 0.0,
                }
                for name, counters in self._pools.items()
            }

    def place(self, pool: Pool, dialler: Dialler) -> None:
        """Run one round: at most one new worker per machine."""
        counters = self._pools[pool.name]
        for machine in self._pool_machines(pool):
            if len(self.workers(pool.name)) >= counters.wanted or self._stopped.is_set():
                break
            with self._state.lock:
                held = tuple(w for w in self._workers.values() if w.machine_id == machine.machine_id)
            worker = worker_that_fits(machine, pool, held)
            if worker is not None:
                self._start_worker(pool, machine, worker, dialler)
        counters.rounds += 1

    def watch(self, pool: Pool, dialler: Dialler) -> None:
        """Run one round: forget workers whose machine or Job is gone, mark those whose pod is running."""
        machines = {machine.key: machine for machine in self._pool_machines(pool)}
        for worker in self.workers(pool.name):
            if worker.machine_key not in machines:
                self._forget(worker)
        for machine in machines.values():
            if machine.status == READY and not self._stopped.is_set():
                self._watch_machine(pool, machine, dialler)

    def _run(self, round_: Callable[[Pool, Dialler], None], pool: Pool, interval_s: float) -> None:
        dialler, stopped = Dialler(self._settings.k3s_port), self._stopped

        def loop() -> None:
            while not stopped.wait(interval_s):
                round_(pool, dialler)

        thread = threading.Thread(target=loop, name=f"{round_.__name__}-{pool.name}", daemon=True)
        self._diallers.append(dialler)
        self._threads.append(thread)
        thread.start()

    def _pool_machines(self, pool: Pool) -> tuple[Machine, ...]:
        wanted = (pool.provider, pool.name)
        return tuple(m for m in self._state.live_machines() if (m.provider, m.pool_name) == wanted)

    def _start_worker(self, pool: Pool, machine: Machine, worker: Worker, dialler: Dialler) -> None:
        token = new_token()
        with self._state.lock:
            counters = self._pools[pool.name]
            of_machine = counters.of(machine.machine_id)
            self._state.tokens.add(token, TokenKind.WORKER)
        self._known[worker.worker_id] = worker = replace(worker, token=token)
        config = self._state.config.value if self._state.config else {}
        job = worker_job(worker, pool, self._settings.direct_redis_host, self._settings.domain, config)
        counters.dialling, counters.dialling_since_s = machine.machine_id, self._state.clock()
        try:
            dialler.call(machine.hostname, machine.token, "POST", JOBS_PATH, job)
        except DialError as error:
            of_machine.failed += 1
            of_machine.leaked_worker_tokens += 1
            of_machine.last_error = str(error)
            self._log("unable to add worker", {"machine_id": machine.machine_id, "error": str(error)})
            return
        finally:
            counters.dialling = None
        with self._state.lock:
            self._workers[worker.worker_id] = worker
        of_machine.placed += 1
        self._log("added new worker", {"machine_id": machine.machine_id, "job": worker.job_name})

    def _watch_machine(self, pool: Pool, machine: Machine, dialler: Dialler) -> None:
        before = [w for w in self.workers(pool.name) if w.machine_key == machine.key]
        try:
            listed = dialler.call(
                machine.hostname, machine.token, "GET", f"{JOBS_PATH}?labelSelector={job_selector(pool.name)}"
            )
            placed = {
                job["metadata"]["labels"].get(WORKER_LABEL) for job in listed["items"] if not _is_over(job)
            }
            for worker in before:
                if worker.worker_id not in placed:
                    self._forget(worker)
                else:
                    self._watch_worker(machine, worker, dialler)
        except DialError as error:
            self._log("unable to list jobs", {"machine_id": machine.machine_id, "error": str(error)})

    def _watch_worker(self, machine: Machine, worker: Worker, dialler: Dialler) -> None:
        now_s = self._state.clock()
        if self._is_pod_running(machine, worker, dialler):
            self._alive_at_s[worker.worker_id] = now_s
            if worker.status == "pending":
                with self._state.lock:
                    self._workers[worker.worker_id] = replace(worker, status="available")
        elif now_s - self._alive_at_s.get(worker.worker_id, now_s) > self._settings.worker_ttl_s:
            self._forget(worker)

    def _is_pod_running(self, machine: Machine, worker: Worker, dialler: Dialler) -> bool:
        path = f"{PODS_PATH}?labelSelector=job-name={worker.job_name}"
        pods: Mapping[str, Any] = dialler.call(machine.hostname, machine.token, "GET", path)
        return any(pod["status"].get("phase") == "Running" for pod in pods["items"])

    def _forget(self, worker: Worker) -> None:
        with self._state.lock:
            self._workers.pop(worker.worker_id, None)
            self._known.pop(worker.worker_id, None)
            self._alive_at_s.pop(worker.worker_id, None)


def _is_over(job: Mapping[str, Any]) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(each["type"] in {"Complete", "Failed"} and each["status"] == "True" for each in conditions)
