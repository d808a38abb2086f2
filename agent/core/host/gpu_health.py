"""Which GPUs this machine has and which of them can be used, by what NVML reports now and has reported before.

A figure that a board does not support is unknown, which is no fault. A board that is no longer listed is not
forgotten: work may hold it, and a person has to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent.core.host.facts import Gpu

FATAL_XIDS = {
    48: "double-bit ECC error",
    64: "row remapping failed",
    79: "GPU has fallen off the bus",
    95: "uncontained ECC error",
    119: "GSP does not answer",
    120: "GSP error",
    140: "unrecovered ECC error",
}
"""Xids after which NVIDIA's catalogue ("XID Errors", GPU deployment guide) asks for a reset of the board
or for its replacement. Most others are caused by an application."""
VANISHED = "fell off the bus: NVML does not list it any more; reset the GPU, or reboot"
_UNNAMED = "unknown-"

Board = Mapping[str, Any]
"""One board as nvml_child.py reports it."""


@dataclass(frozen=True)
class Inventory:
    """All boards ever seen, in the order in which they were first listed."""

    gpus: tuple[Gpu, ...] = ()
    index: Mapping[str, int] = field(default_factory=dict)
    """Where NVML last listed each uuid."""
    condemned: Mapping[str, str] = field(default_factory=dict)
    """Faults that do not heal by themselves, by uuid."""


def observe(before: Inventory, boards: Sequence[Board]) -> Inventory:
    """Return the inventory after NVML has listed `boards`."""
    named = {str(board["uuid"]): board for board in boards if board.get("uuid")}
    condemned = {**before.condemned, **_condemnations(named)}
    missing = {gpu.uuid: VANISHED for gpu in before.gpus if gpu.uuid not in named}
    unnamed = []
    for board in boards:
        if not board.get("uuid"):
            lost, reason = _lost_board(board, missing, before.index), _lost(board)
            if lost is None:
                unnamed.append(Gpu(f"{_UNNAMED}{board.get('index')}", "unknown GPU", False, reason))
            else:
                missing[lost] = reason
    old = [
        replace(gpu, healthy=False, reason=missing[gpu.uuid], utilization_pct=None, temperature_c=None)
        if gpu.uuid in missing
        else _gpu(named[gpu.uuid], condemned)
        for gpu in before.gpus
        if not gpu.uuid.startswith(_UNNAMED)
    ]
    known = {gpu.uuid for gpu in old}
    new = [_gpu(board, condemned) for uuid, board in named.items() if uuid not in known]
    index = {**before.index, **{uuid: int(board["index"]) for uuid, board in named.items()}}
    return Inventory((*old, *new, *unnamed), index, condemned)


def _gpu(board: Board, condemned: Mapping[str, str]) -> Gpu:
    used_bytes, total_bytes = board.get("memory_bytes") or (None, None)
    reason = _fault(board) or condemned.get(board["uuid"])
    return Gpu(
        uuid=board["uuid"],
        name=board.get("name") or "unknown GPU",
        healthy=reason is None,
        reason=reason,
        utilization_pct=board.get("utilization_pct"),
        memory_used_mib=None if used_bytes is None else used_bytes >> 20,
        memory_total_mib=None if total_bytes is None else total_bytes >> 20,
        temperature_c=board.get("temperature_c"),
    )


def _fault(board: Board) -> str | None:
    if board.get("lost"):
        return _lost(board)
    if board.get("remap_failed"):
        return "row remapping failed: the board needs to be replaced"
    if board.get("retirement_pending"):
        return "memory pages wait to be retired: reset the GPU, or reboot"
    # Boards that remap rows (Ampere and later) have already put a bad row out of use.
    if board.get("remap_failed") is None and board.get("uncorrected_errors"):
        return f"{board['uncorrected_errors']} double-bit ECC errors since the last reset: reset the GPU, or reboot"
    return None


def _lost(board: Board) -> str:
    return f"NVML: {board.get('lost')}; reset the GPU, or reboot"


def _condemnations(named: Mapping[str, Board]) -> dict[str, str]:
    return {
        uuid: f"Xid {xid}, {FATAL_XIDS[xid]}: reset the GPU and restart the agent, or reboot"
        for uuid, board in named.items()
        for xid in board.get("xids") or ()
        if xid in FATAL_XIDS
    }


def _lost_board(board: Board, missing: Mapping[str, str], index: Mapping[str, int]) -> str | None:
    """Return which board is lost. It may not even have a uuid any more: the missing board that was last listed at its
    index, else any missing one.
    """
    candidates = [uuid for uuid in missing if missing[uuid] == VANISHED and not uuid.startswith(_UNNAMED)]
    same_index = [uuid for uuid in candidates if index.get(uuid) == board.get("index")]
    return next(iter(same_index + candidates), None)
