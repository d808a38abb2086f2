"""The status for people: a few labelled lines that answer "why isn't it ready?", plain or coloured.

`rows` derives them from `/status`; `live` renders them for a terminal, `plain` for a pipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

Status = Mapping[str, Any]

TRANSITIONS_SHOWN = 6
LABEL_WIDTH = 11
"""Column of the text, in characters. A longer label pushes its text to the right."""


class Tone(str, Enum):
    """Severity of a row; the value is the name of a rich colour."""

    GOOD = "green"
    POOR = "yellow"
    BAD = "red"
    PLAIN = "default"
    FAINT = "bright_black"


@dataclass(frozen=True)
class Row:
    """One labelled line."""

    label: str
    text: str
    tone: Tone = Tone.PLAIN


def rows(status: Status) -> list[Row]:
    """Return every row worth showing, the most important first."""
    return [
        *_machine(status),
        *_waiting(status),
        *_tailnet(_part(status, "tailnet")),
        *_links(_part(status, "tunnel")),
        *_lease(_part(status, "keepalive")),
        *_offer(_part(status, "capacity"), _part(status, "placement")),
        *_functions(_part(status, "functions")),
        *_kubernetes(_part(status, "kubernetes")),
        *_gpus(status.get("gpus") or ()),
        *_faults(status),
        *_transitions(status.get("transitions") or ()),
    ]


def plain(status: Status) -> list[str]:
    """Return the rows as text."""
    return [f"{row.label:{LABEL_WIDTH - 1}} {row.text}" for row in rows(status)]


def live(status: Status) -> RenderableType:
    """Return the rows as a coloured table. Texts are shown verbatim, not interpreted as markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for row in rows(status):
        table.add_row(Text(row.label, style="bold"), Text(row.text, style=row.tone.value))
    return table


def span(seconds: object) -> str:
    """Return a duration in its two largest units, "never" for None."""
    if not isinstance(seconds, (int, float)):
        return "never"
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest_s = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min {rest_s} s"
    hours, rest_min = divmod(minutes, 60)
    return f"{hours} h {rest_min} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _machine(status: Status) -> Iterator[Row]:
    state = str(status.get("state"))
    tone = {"READY": Tone.GOOD, "FAILED": Tone.BAD, "STOPPED": Tone.FAINT}.get(state, Tone.POOR)
    yield Row(
        "machine",
        f"{status.get('machine_id')} in pool {status.get('pool')}: {state} for {span(status.get('since_s'))}",
        tone,
    )
    gateway = _part(status, "gateway")
    answered = gateway.get("last_ok_s") is not None
    last_answer = f"last answered {_ago(gateway.get('last_ok_s'))}" if answered else "has not answered yet"
    yield Row("gateway", f"{gateway.get('url')}, {last_answer}")


def _waiting(status: Status) -> Iterator[Row]:
    waiting = _part(status, "waiting")
    if waiting and status.get("state") != "READY":  # there the offer's line says it
        yield Row("waiting for", f"{waiting.get('what')}; ends when {waiting.get('until')}", Tone.POOR)


def _functions(functions: Status) -> Iterator[Row]:
    if functions.get("can_run"):
        yield Row("functions", "can run here", Tone.GOOD)
    elif functions:
        yield Row("functions", f"cannot run here: {functions.get('reason')}", Tone.POOR)


def _tailnet(tailnet: Status) -> Iterator[Row]:
    if not tailnet:
        return
    if not tailnet.get("up"):
        yield Row("tailnet", str(tailnet.get("reason") or "not checked yet"), Tone.BAD)
        return
    expires_s = tailnet.get("key_expires_in_s")
    key = "key does not expire" if expires_s is None else f"key expires in {span(expires_s)}"
    yield Row("tailnet", f"{tailnet.get('name')} ({tailnet.get('address')}), {key}", Tone.GOOD)
    peer = _part(tailnet, "peer")
    if peer:
        routes = {True: "direct", False: f"relayed through '{peer.get('relay')}'", None: "no traffic yet"}
        online = "connected" if peer.get("online") else "not connected"
        tone = Tone.PLAIN if peer.get("online") else Tone.POOR
        yield Row(
            "peer",
            f"{peer.get('name')} ({peer.get('address')}), {online}, {routes[peer.get('direct')]}",
            tone,
        )


def _links(tunnel: Status) -> Iterator[Row]:
    for name in ("forward", "reverse", "data"):
        link = _part(tunnel, name)
        if not link:
            continue
        address = f"{link.get('address')} " if link.get("address") else ""
        if link.get("up"):
            note = f" ({link['reason']})" if link.get("reason") else ""
            yield Row(name, f"{address}up{note}", Tone.GOOD)
        else:
            yield Row(name, f"{address}down: {link.get('reason') or 'not in use'}", Tone.POOR)
    if tunnel.get("restarts"):
        yield Row(
            "",
            f"forward is on connection {tunnel.get('generation')}; ssh restarts in total: {tunnel['restarts']}",
        )


def _lease(lease: Status) -> Iterator[Row]:
    left_s, interval_s = lease.get("ttl_s"), lease.get("interval_s") or 60
    failures = lease.get("failures") or 0
    failed = f", {failures} keepalives failed in a row" if failures else ""
    if left_s is None:
        yield Row("lease", f"none yet{failed}", Tone.POOR)
        return
    tone = (
        Tone.GOOD if not failures and left_s > interval_s else Tone.BAD if left_s <= interval_s else Tone.POOR
    )
    yield Row("lease", f"{span(left_s)} left, last keepalive {_ago(lease.get('last_ok_s'))}{failed}", tone)


def _offer(capacity: Status, placement: Status) -> Iterator[Row]:
    resources = (
        f"{capacity.get('cpu_millicores')}m cpu, {capacity.get('memory_mib')} MiB, "
        f"{capacity.get('free_gpu_count')} of {capacity.get('gpu_count')} GPUs free"
    )
    blocked = placement.get("reason")
    if capacity.get("offered") and blocked:
        yield Row(
            "offers", f"everything, but the gateway cannot place work: {blocked} ({resources})", Tone.POOR
        )
    elif capacity.get("offered"):
        yield Row("offers", f"everything ({resources})", Tone.GOOD)
    else:
        reason = capacity.get("reason") or "not advertised to the gateway yet"
        yield Row("offers", f"nothing: {reason} ({resources})", Tone.POOR)


def _kubernetes(kubernetes: Status) -> Iterator[Row]:
    if kubernetes.get("answering"):
        node = _part(kubernetes, "node")
        workers = f", workers: {node.get('worker_count')}" if node else ""
        reason = kubernetes.get("reason")
        text = f"answering{workers}" + (f"; {reason}" if reason else "")
        yield Row("k3s", text, Tone.POOR if reason else Tone.GOOD)
    elif kubernetes:
        yield Row("k3s", str(kubernetes.get("reason") or "not checked yet"), Tone.POOR)


def _gpus(gpus: Iterable[Status]) -> Iterator[Row]:
    for number, gpu in enumerate(gpus):
        figures = [
            _figure(gpu.get("utilization_pct"), "{:.0f} % busy"),
            _memory(gpu.get("memory_used_mib"), gpu.get("memory_total_mib")),
            _figure(gpu.get("temperature_c"), "{:.0f} °C"),
        ]
        text = f"{gpu.get('name')}: {', '.join(figure for figure in figures if figure) or 'no readings'}"
        if gpu.get("healthy"):
            yield Row(f"gpu {number}", text, Tone.GOOD)
        else:
            yield Row(
                f"gpu {number}", f"{gpu.get('name')} ({gpu.get('uuid')}): {gpu.get('reason')}", Tone.BAD
            )


def _figure(value: object, form: str) -> str:
    return form.format(value) if isinstance(value, (int, float)) else ""


def _memory(used_mib: object, total_mib: object) -> str:
    if not isinstance(used_mib, (int, float)) or not isinstance(total_mib, (int, float)):
        return ""
    return f"{used_mib / 1024:.1f} of {total_mib / 1024:.1f} GiB"


def _faults(status: Status) -> Iterator[Row]:
    interruption = _part(status, "interruption")
    if interruption:
        yield Row("interrupted", _interruption(interruption), Tone.BAD)
    for text in status.get("degraded") or ():
        yield Row("degraded", str(text), Tone.POOR)
    gateway = _part(status, "gateway")
    if gateway.get("last_error"):
        when = f"{_ago(gateway['last_error_s'])}: " if gateway.get("last_error_s") is not None else ""
        yield Row("last error", f"{when}{gateway['last_error']}", Tone.POOR)


def _transitions(transitions: Iterable[Status]) -> Iterator[Row]:
    latest = list(transitions)[-TRANSITIONS_SHOWN:]
    for number, each in enumerate(reversed(latest)):
        reason = f" ({each['why']})" if each.get("why") else ""
        yield Row(
            "before" if number == 1 else "latest" if number == 0 else "",
            f"{_ago(each.get('age_s'))} {each.get('state')}{reason}",
            Tone.FAINT,
        )


def _interruption(interruption: Status) -> str:
    reason = f" ({interruption['reason']})" if interruption.get("reason") else ""
    left_s, step = interruption.get("deadline_in_s"), interruption.get("step")
    deadline = f", {span(left_s)} left" if left_s is not None else ""
    return f"{interruption.get('kind')}{reason}{deadline}" + (f"; step: {step}" if step else "")


def _ago(seconds: object) -> str:
    return f"{span(seconds)} ago" if isinstance(seconds, (int, float)) else "never"


def _part(status: Status, name: str) -> Status:
    value = status.get(name)
    return value if isinstance(value, dict) else {}
