"""A stand-in for NVIDIA's NVML bindings and eight GPUs.

They answer as an HGX H100 does (recorded shapes: figures in MiB and °C, error numbers from nvml.h). The file named by
NVML_STANDIN is read at each call, so that a test can change what happens while the child runs. Each word in it is one
fault:

    hang            the call never returns           hang-init       nor does nvmlInit
    sigfpe, abort   the library crashes its process  driver-gone     every call fails, as after a driver's removal
    lost:N          board N is lost but listed       vanished:N      board N is not listed any more
    unknown:N       board N's memory: unknown error  unsupported     no optional figure is supported
    ecc:N, pending:N, remap:N                        what ails board N's memory
    xid:N:X         board N reports Xid X once       chatter         the library prints to stdout
"""

# ruff: noqa: N802, N816 - the names are NVML's

import os
import pathlib
import signal
import threading
import types

NVML_ERROR_NOT_SUPPORTED = 3
NVML_ERROR_DRIVER_NOT_LOADED = 9
NVML_ERROR_TIMEOUT = 10
NVML_ERROR_GPU_IS_LOST = 15
NVML_ERROR_RESET_REQUIRED = 16
NVML_ERROR_UNKNOWN = 999
NVML_TEMPERATURE_GPU = 0
NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
NVML_VOLATILE_ECC = 0
nvmlEventTypeXidCriticalError = 8

_TEXTS = {3: "Not Supported", 9: "Driver Not Loaded", 10: "Timeout", 15: "GPU is lost", 999: "Unknown Error"}
_events: list[types.SimpleNamespace] = []
_seen: set[str] = set()
_listed = list(range(8))


class NVMLError(Exception):
    """Like the real one: `value` is the error number of nvml.h."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return _TEXTS[self.value]


def _script() -> list[str]:
    return pathlib.Path(os.environ["NVML_STANDIN"]).read_text(encoding="ascii").split()


def _boards(word: str) -> list[int]:
    return [int(w.split(":")[1]) for w in _script() if w.startswith(word + ":")]


def _alive(board: int) -> int:
    if board in _boards("lost"):
        raise NVMLError(NVML_ERROR_GPU_IS_LOST)
    return board


def _optional(board: int) -> int:
    if "unsupported" in _script():
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return _alive(board)


def nvmlInit() -> None:
    if "hang-init" in _script():
        threading.Event().wait()
    if "driver-gone" in _script():
        raise NVMLError(NVML_ERROR_DRIVER_NOT_LOADED)


def nvmlShutdown() -> None:
    _listed[:] = range(8)


def nvmlDeviceGetCount() -> int:
    script = _script()
    if "hang" in script:
        threading.Event().wait()
    if "sigfpe" in script:
        os.kill(os.getpid(), signal.SIGFPE)
    if "abort" in script:
        os.abort()
    if "driver-gone" in script:
        raise NVMLError(NVML_ERROR_DRIVER_NOT_LOADED)
    if "chatter" in script:
        os.write(1, b"NVML: a line on stdout\n")
    _listed[:] = [board for board in range(8) if board not in _boards("vanished")]
    return len(_listed)


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return _alive(_listed[index])


def nvmlDeviceGetUUID(board: int) -> bytes:
    return b"GPU-0000000%d-aaaa-bbbb-cccc-dddddddddddd" % board


def nvmlDeviceGetName(board: int) -> str:
    return "NVIDIA H100 80GB HBM3"


def nvmlDeviceGetMemoryInfo(board: int) -> types.SimpleNamespace:
    if board in _boards("unknown"):
        raise NVMLError(NVML_ERROR_UNKNOWN)
    return types.SimpleNamespace(used=551 << 20, total=81559 << 20)


def nvmlDeviceGetUtilizationRates(board: int) -> types.SimpleNamespace:
    return types.SimpleNamespace(gpu=10 * _optional(board), memory=0)


def nvmlDeviceGetTemperature(board: int, sensor: int) -> int:
    return 30 + _optional(board)


def nvmlDeviceGetTotalEccErrors(board: int, kind: int, counter: int) -> int:
    return 2 if _optional(board) in _boards("ecc") else 0


def nvmlDeviceGetRetiredPagesPendingStatus(board: int) -> int:
    return int(_optional(board) in _boards("pending"))


def nvmlDeviceGetRemappedRows(board: int) -> tuple[int, int, int, int]:
    if board in _boards("ecc"):  # a board from before Ampere
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return (0, 0, 0, int(_optional(board) in _boards("remap")))


def nvmlEventSetCreate() -> str:
    return "events"


def nvmlEventSetFree(events: str) -> None:
    pass


def nvmlDeviceGetSupportedEventTypes(board: int) -> int:
    return nvmlEventTypeXidCriticalError


def nvmlDeviceRegisterEvents(board: int, kinds: int, events: str) -> None:
    pass


def nvmlEventSetWait_v2(events: str, timeout_ms: int) -> types.SimpleNamespace:
    for word in _script():
        if word.startswith("xid:") and word not in _seen:
            _seen.add(word)
            _, board, xid = word.split(":")
            return types.SimpleNamespace(device=int(board), eventData=int(xid))
    raise NVMLError(NVML_ERROR_TIMEOUT)
