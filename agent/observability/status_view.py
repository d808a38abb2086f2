"""The status for a person: a few labelled lines that answer "why isn't it ready?", plain or in colour.

`rows` makes them of what `/status` says; `live` is what a terminal shows, `plain` what a pipe gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

Status = Mapping[str, Any]

TRANSITIONS_SHOWN = 6
LABEL_WIDTH = 11


class Tone(str, Enum):
    """How a row is to be taken; the value is rich's name of the colour."""

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
    """Everything worth showing, the most telling first."""
    return [
        *_standing(status),
        *_tailnet(_part(status, "tailnet")),
        *_links(_part(status, "tunnel")),
        *_lease(_part(status, "keepalive")),
        *_offer(_part(status, "capacity"), _part(status, "placement")),
        *_kubernetes(_part(status, "kubernetes")),
        *_gpus(status.get("gpus") or ()),
        *_troubles(status),
        *_transitions(status.get("transitions") or ()),
    ]


def plain(status: Status) -> list[str]:
    """The rows as text."""
    return [f"{row.label:{LABEL_WIDTH}}{row.text}" for row in rows(status)]


def live(status: Status) -> RenderableType:
    """The rows as a table with colours. Texts are shown as they are: nothing in them is markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for row in rows(status):
        table.add_row(Text(row.label, style="bold"), Text(row.text, style=row.tone.value))
    return table


def span(seconds: object) -> str:
    """A time as people say it, in its two largest units; "never" for None."""
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


def _standing(status: Status) -> Iterator[Row]:
    state = str(status.get("state"))
    tone = {"READY": Tone.GOOD, "FAILED": Tone.BAD, "STOPPED": Tone.FAINT}.get(state, Tone.POOR)
    yield Row(
        "machine",
        f"{status.get('machine_id')} in pool {status.get('pool')}: {state} for {span(status.get('since_s'))}",
        tone,
    )
    gateway = _part(status, "gateway")
    yield Row("gateway", f"{gateway.get('url')}, last answer {_ago(gateway.get('last_ok_s'))}")


def _tailnet(tailnet: Status) -> Iterator[Row]:
    if not tailnet:
        return
    if not tailnet.get("up"):
        yield Row("tailnet", str(tailnet.get("reason") or "not looked at yet"), Tone.BAD)
        return
    expires_s = tailnet.get("key_expires_in_s")
    key = "its key does not expire" if expires_s is None else f"its key expires in {span(expires_s)}"
    yield Row("tailnet", f"{tailnet.get('name')} ({tailnet.get('address')}), {key}", Tone.GOOD)
    peer = _part(tailnet, "peer")
    if peer:
        ways = {True: "direct", False: f"by the relay '{peer.get('relay')}'", None: "no traffic yet"}
        online = "connected" if peer.get("online") else "not connected"
        tone = Tone.PLAIN if peer.get("online") else Tone.POOR
        yield Row(
            "peer", f"{peer.get('name')} ({peer.get('address')}), {online}, {ways[peer.get('direct')]}", tone
        )


def _links(tunnel: Status) -> Iterator[Row]:
    for name in ("forward", "reverse", "data"):
        link = _part(tunnel, name)
        if not link:
            continue
        where = f"{link.get('address')} " if link.get("address") else ""
        if link.get("up"):
            note = f" ({link['reason']})" if link.get("reason") else ""
            yield Row(name, f"{where}up{note}", Tone.GOOD)
        else:
            yield Row(name, f"{where}down: {link.get('reason') or 'not needed now'}", Tone.POOR)
    if tunnel.get("restarts"):
        yield Row(
            "", f"the forward is number {tunnel.get('generation')}; {tunnel['restarts']} replaced in all"
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
    has = (
        f"{capacity.get('cpu_millicores')}m cpu, {capacity.get('memory_mib')} MiB, "
        f"{capacity.get('free_gpu_count')} of {capacity.get('gpu_count')} GPUs free"
    )
    blocked = placement.get("reason")
    if capacity.get("offered") and blocked:
        yield Row("offers", f"everything, and no work can come: {blocked} ({has})", Tone.POOR)
    elif capacity.get("offered"):
        yield Row("offers", f"everything ({has})", Tone.GOOD)
    else:
        yield Row(
            "offers", f"nothing: {capacity.get('reason') or 'not told to the gateway yet'} ({has})", Tone.POOR
        )


def _kubernetes(kubernetes: Status) -> Iterator[Row]:
    if kubernetes.get("answering"):
        node = _part(kubernetes, "node")
        work = f", {node.get('worker_count')} workers on it" if node else ""
        reason = kubernetes.get("reason")
        yield Row(
            "k3s", f"answers{work}" + (f"; {reason}" if reason else ""), Tone.POOR if reason else Tone.GOOD
        )
    elif kubernetes:
        yield Row("k3s", str(kubernetes.get("reason") or "not looked for yet"), Tone.POOR)


def _gpus(gpus: Any) -> Iterator[Row]:
    for number, gpu in enumerate(gpus):
        figures = [
            _figure(gpu.get("utilization_pct"), "{:.0f} % busy"),
            _memory(gpu.get("memory_used_mib"), gpu.get("memory_total_mib")),
            _figure(gpu.get("temperature_c"), "{:.0f} °C"),
        ]
        text = f"{gpu.get('name')}: {', '.join(figure for figure in figures if figure) or 'tells no figures'}"
        if gpu.get("healthy"):
            yield Row(f"gpu {number}", text, Tone.GOOD)
        else:
            yield Row(
                f"gpu {number}", f"{gpu.get('name')} ({gpu.get('uuid')}): {gpu.get('reason')}", Tone.BAD
            )


def _figure(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, (int, float)) else ""


def _memory(used_mib: Any, total_mib: Any) -> str:
    if not isinstance(used_mib, (int, float)) or not isinstance(total_mib, (int, float)):
        return ""
    return f"{used_mib / 1024:.1f} of {total_mib / 1024:.1f} GiB"


def _troubles(status: Status) -> Iterator[Row]:
    interruption = _part(status, "interruption")
    if interruption:
        told = ", ".join(f"{name.removesuffix('_s')} {value}" for name, value in interruption.items())
        yield Row("interrupted", told, Tone.BAD)
    for text in status.get("degraded") or ():
        yield Row("degraded", str(text), Tone.POOR)
    gateway = _part(status, "gateway")
    if gateway.get("last_error"):
        when = f"{_ago(gateway['last_error_s'])}: " if gateway.get("last_error_s") is not None else ""
        yield Row("last error", f"{when}{gateway['last_error']}", Tone.POOR)


def _transitions(transitions: Any) -> Iterator[Row]:
    latest = list(transitions)[-TRANSITIONS_SHOWN:]
    for number, each in enumerate(reversed(latest)):
        why = f" ({each['why']})" if each.get("why") else ""
        yield Row(
            "before" if number == 1 else "latest" if number == 0 else "",
            f"{_ago(each.get('age_s'))} {each.get('state')}{why}",
            Tone.FAINT,
        )


def _ago(seconds: object) -> str:
    return f"{span(seconds)} ago" if isinstance(seconds, (int, float)) else "never"


def _part(status: Status, name: str) -> Status:
    value = status.get(name)
    return value if isinstance(value, dict) else {}
