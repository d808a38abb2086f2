"""One hairpin in a process of its own, as the agent keeps it: `python -m tests.gateway.hairpin_process RANGE K3S_PORT`.

Each line of stdin is a check (`open` or `closed`; `k3s` to try that, too; `quickly` to read nothing), and is answered
with a line of JSON; the end of stdin removes the hairpin.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from agent.adapters.hairpin.keeper import HairpinKeeper
from agent.core.effects import CheckHairpin
from agent.core.hairpin.layout import Layout

TIMEOUT_S = 2.0


def main() -> None:
    """Answer until stdin ends."""
    keeper = HairpinKeeper(Layout(sys.argv[1], int(sys.argv[2])))
    for line in sys.stdin:
        words = line.split()
        found = keeper.check(CheckHairpin("open" in words, "k3s" in words, "quickly" not in words, TIMEOUT_S))
        sys.stdout.write(json.dumps(asdict(found)) + "\n")
        sys.stdout.flush()
    keeper.close()


if __name__ == "__main__":
    main()
