"""Why the relay refuses a dial. The values are labels of metrics and fields of log lines."""

from __future__ import annotations

from enum import Enum


class Refusal(Enum):
    """Why a dial to a machine was refused."""

    AWAY = "away"
    """Nothing listens for this machine here: it is not connected, or has another address now."""
    CLOSED = "closed"
    """The machine refused, or does not permit the port."""
    SILENT = "silent"
    """The machine did not answer in time."""
    PAUSED = "paused"
    """Not asked, because the machine was silent a short while ago."""
    FULL = "full"
    """The relay has as many connections as its limit of open files allows."""
