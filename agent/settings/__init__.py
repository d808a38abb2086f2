"""The agent's settings: which exist, where they are read from, and which rules hold between them.

`fields` is the table of settings; `sources` finds the text of each, `parsers` converts it, `rules` checks
combinations, and `reading` runs all of this; `flags` declares the command line, `page` generates the documentation.

The agent must start within 350 ms. So this package imports the standard library only, and dataclasses that are never
compared have `eq=False`, which halves the cost of creating the class.
"""

from __future__ import annotations

from agent.settings.flags import add_arguments, without_ignored
from agent.settings.model import Settings
from agent.settings.reading import ETC, examine, load
from agent.settings.shown import describe
from agent.settings.values import Connection, Forward, HostPort, Interruption, K3sMode, ReverseMode, SecretRef

__all__ = [
    "ETC",
    "Connection",
    "Forward",
    "HostPort",
    "Interruption",
    "K3sMode",
    "ReverseMode",
    "SecretRef",
    "Settings",
    "add_arguments",
    "describe",
    "examine",
    "load",
    "without_ignored",
]
