"""The agent's settings: what there is to set, where it is read from, and what must hold between settings.

`fields` is the table of settings; `sources` finds the text of each, `parsers` makes values of them, `rules`
looks at them together, `reading` does all this at once; `flags` declares the command line, `page` the
documentation. Only the standard library is imported here, and `eq=False` stands wherever nothing is compared
(half a dataclass's price): a start has 350 ms for everything.
"""

from __future__ import annotations

from agent.settings.flags import add_arguments, without_ignored
from agent.settings.model import Settings
from agent.settings.reading import ETC, examine, load
from agent.settings.shown import describe
from agent.settings.values import Connection, Forward, HostPort, Interruption, K3sMode, SecretRef

__all__ = [
    "ETC",
    "Connection",
    "Forward",
    "HostPort",
    "Interruption",
    "K3sMode",
    "SecretRef",
    "Settings",
    "add_arguments",
    "describe",
    "examine",
    "load",
    "without_ignored",
]
