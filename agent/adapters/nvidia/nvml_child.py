"""The process that talks to NVML, so that a hang or a crash there costs an answer and not the agent.

`python -m agent.adapters.nvidia.nvml_child`; the standard library and `pynvml` only. One JSON object a line:

    out  {"ready": true}                        NVML is initialised; or {"error": "…"}, and it ends
    in   {"id": 7}
    out  {"id": 7, "boards": [{…}, …]}          one object a board, see `read_board`
    out  {"id": 7, "error": "…"}                not even their number is to be had

It only reports what NVML said; gpu.py decides what that means.
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
"""How often NVML is started anew while a board is lost: an old session does not see one that came back."""
XID_EVENTS_MAX = 64
"""How many waiting Xid events one answer takes along; a storm of them must not keep it from being given."""


class Session:
    """One initialised NVML, and the Xid events it was asked to keep."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self.opened_at_s = time.monotonic()
        self.lost_boards = False
        self._gone = {nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED}
        self._events: Any = None
        nvml.nvmlInit()
        with contextlib.suppress(nvml.NVMLError):  # no event support (older boards): there are other signs
            self._events = nvml.nvmlEventSetCreate()
            for index in range(nvml.nvmlDeviceGetCount()):
                self._subscribe(index)

    def close(self) -> None:
        """End NVML; what it may say about that does not matter any more."""
        with contextlib.suppress(self.nvml.NVMLError):
            if self._events is not None:
                self.nvml.nvmlEventSetFree(self._events)
        with contextlib.suppress(self.nvml.NVMLError):
            self.nvml.nvmlShutdown()

    def boards(self) -> list[dict[str, Any]]:
        """All boards that NVML lists. Raises: NVMLError."""
        boards = [self.read_board(index) for index in range(self.nvml.nvmlDeviceGetCount())]
        xids = self._xids()
        for board in boards:
            board["xids"] = xids.get(board["uuid"], [])
        self.lost_boards = any(board["lost"] for board in boards)
        return boards

    def read_board(self, index: int) -> dict[str, Any]:
        """What NVML says of one board: `lost` is why it is unusable, any figure null where it gives none."""
        nvml = self.nvml
        board: dict[str, Any] = {"index": index, "uuid": None, "lost": None}
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            board["uuid"] = _text(nvml.nvmlDeviceGetUUID(handle))
        except nvml.NVMLError as error:
            board["lost"] = str(error)
            return board
        for name, ask in self._questions(handle).items():
            # An unknown error condemns where every healthy board answers: optional figures may just be odd.
            condemning = self._gone | ({nvml.NVML_ERROR_UNKNOWN} if name == "memory_bytes" else set())
            board[name] = self._answer(board, ask, condemning)
        return board

    def _questions(self, handle: Any) -> dict[str, Callable[[], Any]]:
        nvml = self.nvml

        def memory() -> tuple[int, int]:
            found = nvml.nvmlDeviceGetMemoryInfo(handle)
            return found.used, found.total

        return {
            "memory_bytes": memory,
            "name": lambda: _text(nvml.nvmlDeviceGetName(handle)),
            "utilization_pct": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "uncorrected_errors": lambda: nvml.nvmlDeviceGetTotalEccErrors(
                handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            ),
            "retirement_pending": lambda: bool(nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle)),
            # (corrected, uncorrected, pending, failed); only boards since Ampere remap rows
            "remap_failed": lambda: bool(nvml.nvmlDeviceGetRemappedRows(handle)[3]),
        }

    def _answer(self, board: dict[str, Any], ask: Callable[[], Any], condemning: set[int]) -> Any:
        with contextlib.suppress(AttributeError):  # an older pynvml that lacks the call
            try:
                return ask()
            except self.nvml.NVMLError as error:
                if error.value in condemning:
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
        """Xid numbers that came in since the last answer, by uuid. Never waits."""
        found: dict[str | None, list[int]] = {}
        with contextlib.suppress(self.nvml.NVMLError):  # a timeout: no more are there
            for _ in range(XID_EVENTS_MAX if self._events is not None else 0):
                event = self.nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid = _text(self.nvml.nvmlDeviceGetUUID(event.device))
                found.setdefault(uuid, []).append(int(event.eventData))
        return found


def _text(value: Any) -> str:
    """Older bindings answer in bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def serve(requests: IO[str], answer: Callable[[dict[str, Any]], None], nvml: Any) -> int:
    """Answer until the agent closes the pipe. Returns the exit code."""
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
            return 1  # the next one starts afresh: the driver may have been replaced under us
    session.close()
    return 0


def main() -> int:
    """Keep the protocol's pipe for ourselves: what the library prints goes to stderr."""
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
