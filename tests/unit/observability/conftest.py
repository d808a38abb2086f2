"""Isolation of logging, which is global to the process."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """Restore handlers, level and hooks after each test."""
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    level, handlers = logging.getLogger().level, logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    logging.captureWarnings(False)
    logging.raiseExceptions = True
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
