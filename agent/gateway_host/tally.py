"""The relay's counters as Prometheus' text, and its log lines about refused dials.

Probes of a port on which nothing listens yet are refused several times a second, for each container that starts. So a
refusal is a counter; the log has a line for the first of each kind and address, and rarer and rarer ones after that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agent.core.relay.refusals import Refusal
from agent.observability.log_throttle import LogThrottle
from agent.observability.logs import get_logger

PREFIX = "beta9_relay_"
_ADDRESSES_MAX = 4096
"""So many addresses are told apart in the log; a scan of the whole zone would otherwise fill memory."""


@dataclass
class Tally:
    """What the relay has done so far. Written by the event loop alone."""

    opened: int = 0
    refused: dict[Refusal, int] = field(default_factory=lambda: dict.fromkeys(Refusal, 0))
    retransmitted: int = 0
    unclaimed: int = 0
    open_connections: int = 0
    waiting: int = 0
    silent: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    dial_seconds: float = 0.0
    rules_restored: int = 0

    def metrics(self) -> str:
        """Return all of it in Prometheus' text format."""
        return "".join(self._families())

    def _families(self) -> Iterator[str]:
        dials: dict[str, float] = {"opened": self.opened}
        dials |= {refusal.value: count for refusal, count in self.refused.items()}
        yield _family("dials", "counter", "Dials to machines, by result.", "result", dials)
        plain: list[tuple[str, str, str, float]] = [
            ("dial_seconds", "counter", "Time that opened and refused dials have waited, added up.", self.dial_seconds),
            ("retransmitted_dials", "counter", "Repeated first packets of waiting dials.", self.retransmitted),
            ("unclaimed_streams", "counter", "Opened for a dialler that had given up.", self.unclaimed),
            ("sent_bytes", "counter", "Bytes that went to machines.", self.sent_bytes),
            ("received_bytes", "counter", "Bytes that came from machines.", self.received_bytes),
            ("rules_restored", "counter", "Times that the packet filter's rules were put back.", self.rules_restored),
            ("connections", "gauge", "Open connections.", self.open_connections),
            ("waiting_dials", "gauge", "Dials that wait for a machine's answer.", self.waiting),
            ("silent", "gauge", "Machines, and single ports, that are not dialled: they did not answer.", self.silent),
        ]  # fmt: skip
        for name, kind, text, value in plain:
            yield _family(name, kind, text, "", {"": value})


def _family(name: str, kind: str, text: str, label: str, values: dict[str, float]) -> str:
    full = f"{PREFIX}{name}{'_total' if kind == 'counter' else ''}"
    lines = [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
    for value_of, value in values.items():
        labels = f'{{{label}="{value_of}"}}' if label else ""
        lines.append(f"{full}{labels} {value}")
    return "\n".join(lines) + "\n"


class Journal:
    """Writes the log lines about dials. Not thread-safe."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._log = get_logger()
        self._now_s = now_s
        self._throttle = LogThrottle()
        self._addresses: set[str] = set()

    def refused(self, refusal: Refusal, address: str, port: int) -> None:
        """Log a refusal, unless there was one of its kind at this address a short while ago."""
        if refusal is Refusal.PAUSED:  # the silence before it was logged
            return
        self._addresses.add(address)
        if len(self._addresses) > _ADDRESSES_MAX:
            self._addresses.clear()
            self._throttle = LogThrottle()
        repeats = self._throttle.record(f"{refusal.value} {address}", self._now_s())
        if repeats is not None:
            self._log.info(
                "relay_refused",
                reason=refusal.value,
                address=address,
                port=port,
                times=repeats.times,
                seconds=round(repeats.lasted_s),
            )

    def silent(self, address: str, port: int, pause_s: float, *, whole_machine: bool) -> None:
        """Log that a machine, or this port alone, did not answer, and for how long it will not be asked."""
        self._log.warning(
            "relay_silent", address=address, port=port, whole_machine=whole_machine, pause_s=pause_s
        )

    def back(self, address: str, port: int | None) -> None:
        """Log that the machine, or this port of it, is dialled again."""
        self._log.info("relay_dials_again", address=address, port=port)
