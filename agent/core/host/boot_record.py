"""The bootstrap's record of a machine's first boot, as a value and as text for people.

The record is `bootstrap.json` in the state directory; `bootstrap/` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BAR = 40
"""Columns for the whole duration."""


@dataclass(frozen=True)
class Stage:
    """One stage. Times in seconds since the bootstrap began; None: not ended."""

    name: str
    started_s: float
    seconds: float | None
    result: str
    """`ok`, `skipped`, `failed`, or what a later bootstrap says."""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Boot:
    """One run of the bootstrap."""

    started_at: str
    finished_at: str | None
    result: str
    """`running`, `ok`, `failed`, `rebooting`."""
    failed_stage: str | None
    fix: str | None
    stages: tuple[Stage, ...] = ()

    @property
    def seconds(self) -> float:
        """Duration from the beginning to the end of the last stage."""
        return max((stage.started_s + (stage.seconds or 0) for stage in self.stages), default=0.0)

    @property
    def sum_s(self) -> float:
        """Duration of all stages, one after the other."""
        return sum(stage.seconds or 0 for stage in self.stages)


def read_boot(record: Mapping[str, Any]) -> Boot | None:
    """Read a record; None if it cannot be understood. Never raises."""
    if record.get("version") != 1 or not isinstance(record.get("result"), str):
        return None
    stages = record.get("stages")
    found = [_stage(each) for each in stages if isinstance(each, Mapping)] if isinstance(stages, list) else []
    return Boot(
        started_at=_text(record.get("started_at")) or "",
        finished_at=_text(record.get("finished_at")),
        result=record["result"],
        failed_stage=_text(record.get("failed_stage")),
        fix=_text(record.get("fix")),
        stages=tuple(sorted(found, key=lambda stage: stage.started_s)),
    )


def failure(boot: Boot) -> str | None:
    """Return what `/status` shows as degraded, or None if the bootstrap did not fail."""
    if boot.result != "failed":
        return None
    return f"the bootstrap failed in stage {boot.failed_stage or 'unknown'}: {boot.fix or 'see its log'}"


def timeline(boot: Boot) -> str:
    """Return one line: each stage that did something, with its seconds, in the order of their start."""
    return ", ".join(f"{s.name} {s.seconds or 0:.1f}" for s in boot.stages if s.result != "skipped")


def chart(boot: Boot) -> list[str]:
    """Return a small bar chart: when each stage ran, for how long, and its result."""
    whole_s = boot.seconds
    width = max((len(stage.name) for stage in boot.stages), default=0)
    lines = [f"bootstrap of {boot.started_at}: {boot.result}, {whole_s:.1f} s"]
    lines += [_bar(stage, width, whole_s) for stage in boot.stages]
    if whole_s and boot.sum_s:
        lines.append(
            f"one after the other: {boot.sum_s:.1f} s; in parallel it took {whole_s / boot.sum_s:.2f} of that"
        )
    if boot.result == "failed":
        lines += [f"failed: {boot.failed_stage or 'unknown'}", f"fix: {boot.fix or 'see its log'}"]
    return lines


def _bar(stage: Stage, width: int, whole_s: float) -> str:
    seconds = "-" if stage.seconds is None else f"{stage.seconds:.1f}"
    result = "" if stage.result == "ok" else f"  {stage.result}"
    scale = BAR / whole_s if whole_s else 0.0
    begin = min(BAR - 1, round(stage.started_s * scale))
    length = max(1, round((stage.seconds or 0) * scale))
    bar = (" " * begin + "█" * length)[:BAR] if stage.result != "skipped" else ""
    return f"  {stage.name:{width}} {bar:{BAR}} {seconds:>7} s{result}".rstrip()


def _stage(record: Mapping[str, Any]) -> Stage:
    needs = record.get("needs")
    return Stage(
        name=_text(record.get("name")) or "?",
        started_s=_number(record.get("started_s")) or 0.0,
        seconds=_number(record.get("seconds")),
        result=_text(record.get("result")) or "running",
        needs=tuple(str(each) for each in needs) if isinstance(needs, list) else (),
    )


def _text(value: object) -> str | None:
    """Return a text without control characters, cut to 500 characters."""
    if not isinstance(value, str) or not value:
        return None
    return "".join(c if c.isprintable() else " " for c in value)[:500]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e7:
        return None
    return float(value)
