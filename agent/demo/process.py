"""Helpers for demo servers that run as separate processes: ready files and stop signals."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path


def write_ready_file(path: Path | None, facts: Mapping[str, object]) -> None:
    """Write `facts` (ports, addresses) to `path` atomically, so that a waiting reader never sees half a file."""
    if path is None:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    partial.replace(path)


def wait_for_signal() -> None:
    """Block until SIGTERM or SIGINT. Must be called from the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
