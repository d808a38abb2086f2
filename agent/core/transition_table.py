"""Tables of transitions, from which code decides and documentation is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S", bound=Enum)


@dataclass(frozen=True)
class Row(Generic[S]):
    """One transition: from which state, when (in words; code looks conditions up by them), to which state."""

    source: S
    when: str
    target: S


def next_state(
    rows: Iterable[Row[S]],
    source: S,
    conditions: Mapping[str, Callable[P, bool]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> S | None:
    """Return where the first row of `source` leads whose condition holds; None if there is none.

    The further arguments are those of the conditions.
    """
    for row in rows:
        if row.source is source and conditions[row.when](*args, **kwargs):
            return row.target
    return None


def mermaid(rows: Iterable[Row[S]], initial: S) -> str:
    """Return the table as a Mermaid state diagram. Rows that lead back to their own state are not drawn."""
    lines = ["stateDiagram-v2", f"    [*] --> {initial.value}"]
    lines += [arrow(row) for row in rows if row.source is not row.target]
    return "\n".join(lines)


def arrow(row: Row[S]) -> str:
    """Return one transition as a line of a Mermaid diagram."""
    return f"    {row.source.value} --> {row.target.value}: {row.when}"
