"""Pool health checks, every ten seconds as in the gateway; changes are logged."""

from __future__ import annotations

import threading

from agent.demo.gateway.machines import READY, Pool
from agent.demo.gateway.options import Log
from agent.demo.gateway.placement import Placement
from agent.demo.gateway.routes import GatewayState


class HealthMonitor:
    """Marks a pool without a ready machine as degraded, which disables its workers that have not started."""

    def __init__(self, state: GatewayState, placement: Placement, interval_s: float, log: Log) -> None:
        self._state, self._placement, self._interval_s, self._log = state, placement, interval_s, log
        self.healthy: dict[str, bool] = {}
        """By pool name; empty before the first check."""
        self._stopped = threading.Event()

    def start(self) -> None:
        """Check at the interval in a thread of its own."""
        self._stopped = stopped = threading.Event()

        def loop() -> None:
            while not stopped.wait(self._interval_s):
                self.check()

        threading.Thread(target=loop, name="pool-health", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def check(self) -> None:
        """Check every pool once."""
        for pool in self._state.pools.values():
            healthy = self._has_ready_machine(pool)
            if self.healthy.get(pool.name) == healthy:
                continue
            self.healthy[pool.name] = healthy
            if healthy:
                self._log("pool is healthy", {"pool_name": pool.name})
            else:
                self._log("pool is degraded", {"pool_name": pool.name, "reason": "not enough ready machines"})
                self._placement.disable_pending(pool.name)

    def _has_ready_machine(self, pool: Pool) -> bool:
        wanted = (pool.provider, pool.name, READY)
        return any((m.provider, m.pool_name, m.status) == wanted for m in self._state.live_machines())
