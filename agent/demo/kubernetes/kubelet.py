"""The stand-in's kubelet: it runs the pods of the gateway's Jobs as processes of the stand-in worker.

Off by default: then a pod "runs" without any process. Other pods never have one.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from agent.adapters.process.run import Child, clean_environment, spawn
from agent.demo.kubernetes.job_controller import is_going

if TYPE_CHECKING:
    from agent.demo.kubernetes.standin import StandInKubernetes

WORKER = ["/usr/local/bin/worker"]
"""The command of the pods that are run."""
LOOK_S = 0.05
RESTART_S = 1.0
STOP_S = 5.0
Pod = dict[str, Any]


class Kubelet:
    """Starts, restarts and ends the processes, between start() and stop()."""

    def __init__(self, api: StandInKubernetes) -> None:
        self._api = api
        self._children: dict[str, Child] = {}
        self._restart_at_s: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End every process."""
        self._stopping.set()
        self._thread.join()
        for child in self._children.values():
            child.stop(STOP_S)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            now_s = self._api.clock()
            with self._api.lock:
                self._api.cluster.advance(now_s)
                pods = {
                    pod["metadata"]["uid"]: pod for pod in self._api.cluster.pods.values() if _is_run(pod)
                }
            for uid in [uid for uid in self._children if uid not in pods]:
                self._children.pop(uid).stop(STOP_S)
            for uid, pod in pods.items():
                self._look_at(uid, pod, now_s)

    def _look_at(self, uid: str, pod: Pod, now_s: float) -> None:
        child = self._children.get(uid)
        if child is None:
            if now_s >= self._restart_at_s.get(uid, now_s):
                self._children[uid] = _started(pod)
        elif child.code == 0:
            meta = pod["metadata"]
            with self._api.lock:
                self._api.cluster.finish_job(meta["namespace"], meta["labels"]["job-name"], now_s)
        elif child.code is not None:  # restartPolicy: OnFailure
            del self._children[uid]
            self._restart_at_s[uid] = now_s + RESTART_S


def _is_run(pod: Pod) -> bool:
    is_worker = pod["spec"]["containers"][0].get("command") == WORKER
    return is_worker and pod["status"]["phase"] == "Running" and not is_going(pod)


def _started(pod: Pod) -> Child:
    name = pod["metadata"]["name"]
    given = {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}
    return spawn(
        [sys.executable, "-m", "agent.demo.worker"],
        name=name,
        env=clean_environment(given),
        on_line=lambda line: print(f"{name}: {line}", file=sys.stderr, flush=True),
    )
