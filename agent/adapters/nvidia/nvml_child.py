"""The process that calls NVML, so that a hang or crash there costs one reading and not the agent.

`python -m agent.adapters.nvidia.nvml_child`; uses only the standard library and `pynvml`. One JSON object per line:

    out  {"ready": true}                        NVML is initialised; or {"error": "…"}, and the process ends
    in   {"id": 7}
    out  {"id": 7, "boards": [{…}, …]}          one object per board, see `read_board`
    out  {"id": 7, "error": "…"}                not even the number of boards could be read; the process ends

It only reports what NVML returns; core/host/gpu_health.py decides what that means.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import IO, Any

REOPEN_S = 60.0
"""How often NVML is reopened while a board is lost: an open session does not see a board that has come back."""
XID_EVENTS_MAX = 64
"""How many pending Xid events one reply includes at most, so that a flood of them cannot delay it."""


class Session:
    """An initialised NVML, with its subscription to Xid events."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self.opened_at_s = time.monotonic()
        self.lost_boards = False
        self._lost_codes = {nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED}
        self._events: Any = None
        nvml.nvmlInit()
        with contextlib.suppress(
            nvml.NVMLError
        ):  # older boards have no events; there are other signs of a fault
            self._events = nvml.nvmlEventSetCreate()
            for index in range(nvml.nvmlDeviceGetCount()):
                self._subscribe(index)

    def close(self) -> None:
        """Shut NVML down. Its errors no longer matter."""
        with contextlib.suppress(self.nvml.NVMLError):
            if self._events is not None:
                self.nvml.nvmlEventSetFree(self._events)
        with contextlib.suppress(self.nvml.NVMLError):
            self.nvml.nvmlShutdown()

    def boards(self) -> list[dict[str, Any]]:
        """Read all boards that NVML lists. Raises: NVMLError."""
        boards = [self.read_board(index) for index in range(self.nvml.nvmlDeviceGetCount())]
        xids = self._xids()
        for board in boards:
            board["xids"] = xids.get(board["uuid"], [])
        self.lost_boards = any(board["lost"] for board in boards)
        return boards

    def read_board(self, index: int) -> dict[str, Any]:
        """Read one board. `lost` is the reason if it is unusable; a figure that NVML does not report is null."""
        nvml = self.nvml
        board: dict[str, Any] = {"index": index, "uuid": None, "lost": None}
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            board["uuid"] = _text(nvml.nvmlDeviceGetUUID(handle))
        except nvml.NVMLError as error:
            board["lost"] = str(error)
            return board
        for name, query in self._queries(handle).items():
            # Every healthy board reports its memory: there an unknown error is fatal, too. Other figures are optional.
            fatal_codes = self._lost_codes | ({nvml.NVML_ERROR_UNKNOWN} if name == "memory_bytes" else set())
            board[name] = self._query(board, query, fatal_codes)
        return board

    def _queries(self, handle: Any) -> dict[str, Callable[[], Any]]:
        nvml = self.nvml

        def memory() -> tuple[int, int]:
            info = nvml.nvmlDeviceGetMemoryInfo(handle)
            return info.used, info.total

        return {
            "memory_bytes": memory,
            "name": lambda: _text(nvml.nvmlDeviceGetName(handle)),
            "utilization_pct": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "uncorrected_errors": lambda: nvml.nvmlDeviceGetTotalEccErrors(
                handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            ),
            "retirement_pending": lambda: bool(nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle)),
            # (corrected, uncorrected, pending, failed); only Ampere and later boards remap rows
            "remap_failed": lambda: bool(nvml.nvmlDeviceGetRemappedRows(handle)[3]),
        }

    def _query(self, board: dict[str, Any], query: Callable[[], Any], fatal_codes: set[int]) -> Any:
        with contextlib.suppress(AttributeError):  # an older pynvml that lacks the call
            try:
                return query()
            except self.nvml.NVMLError as error:
                if error.value in fatal_codes:
                    board["lost"] = str(error)
        return None

    def _subscribe(self, index: int) -> None:
        nvml = self.nvml
        with contextlib.suppress(nvml.NVMLError):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            wanted = nvml.nvmlEventTypeXidCriticalError & nvml.nvmlDeviceGetSupportedEventTypes(handle)
            if wanted:
                nvml.nvmlDeviceRegisterEvents(handle, wanted, self._events)

    def _xids(self) -> dict[str | None, list[int]]:
        """Return the Xid numbers that arrived since the last reply, by uuid. Never waits."""
        xids: dict[str | None, list[int]] = {}
        with contextlib.suppress(self.nvml.NVMLError):  # a timeout means that no more are pending
            for _ in range(XID_EVENTS_MAX if self._events is not None else 0):
                event = self.nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid = _text(self.nvml.nvmlDeviceGetUUID(event.device))
                xids.setdefault(uuid, []).append(int(event.eventData))
        return xids


def _text(value: object) -> str:
    """Decode what older bindings return as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def serve(requests: IO[str], answer: Callable[[dict[str, Any]], None], nvml: Any) -> int:
    """Answer requests until the agent closes the pipe. Return the exit code."""
    try:
        session = Session(nvml)
    except nvml.NVMLError as error:
        answer({"error": str(error)})
        return 1
    answer({"ready": True})
    for line in requests:
        number = json.loads(line)["id"]
        try:
            if session.lost_boards and time.monotonic() - session.opened_at_s > REOPEN_S:
                session.close()
                session = Session(nvml)
            answer({"id": number, "boards": session.boards()})
        except nvml.NVMLError as error:
            answer({"id": number, "error": str(error)})
            return 1  # a new process starts afresh: the driver may have been replaced
    session.close()
    return 0


def main() -> int:
    """Run the protocol on the original stdout, and send whatever the library prints to stderr."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        pipe.write(json.dumps(message) + "\n")
        pipe.flush()

    try:
        import pynvml
    except ImportError as error:
        answer({"error": f"{error}; install nvidia-ml-py"})
        return 1
    with contextlib.suppress(BrokenPipeError):
        return serve(sys.stdin, answer, pynvml)
    return 0


if __name__ == "__main__":
    sys.exit(main())
