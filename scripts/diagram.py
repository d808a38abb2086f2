"""Draws the tables of agent/core/ into ARCHITECTURE.md: `python -m scripts.diagram`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from agent.core.lifecycle.displayed_state import diagram

PAGE = Path(__file__).parents[1] / "ARCHITECTURE.md"
_BLOCK = re.compile(r"(?<=```mermaid\n).*?(?=\n```)", re.DOTALL)


def main() -> int:
    """Replace the drawing; exit code 1 where the page has no place for it."""
    text = PAGE.read_text(encoding="utf-8")
    drawn, count = _BLOCK.subn(lambda _: diagram(), text)
    if count != 1:
        print(f"{PAGE.name} holds {count} mermaid blocks; one is needed", file=sys.stderr)
        return 1
    PAGE.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
