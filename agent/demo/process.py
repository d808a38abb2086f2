"""How a demo server runs as a process of its own: tell by a file that it is ready, stop on a signal."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_ready_file(path: Path | None, facts: Mapping[str, Any]) -> None:
    """Put `facts` (ports, addresses) into `path` at one stroke, so that who waits for it never reads half."""
    if path is None:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    partial.replace(path)


def wait_for_a_signal() -> None:
    """Return on SIGTERM or SIGINT. To be called from the main thread."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    asked.wait()
