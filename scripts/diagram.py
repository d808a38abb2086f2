"""Draws the tables of agent/core/ into ARCHITECTURE.md: `python -m scripts.diagram`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from agent.core.lifecycle import displayed_state, drain
from agent.core.lifecycle.model import DrainPhase
from agent.core.transition_table import mermaid
from agent.core.tunnel import transitions
from agent.core.tunnel.model import LinkPhase

PAGE = Path(__file__).parents[1] / "ARCHITECTURE.md"


def diagrams() -> dict[str, str]:
    """Return each diagram by the name in its marker, `<!-- diagram: NAME -->`, which stands above its block."""
    return {
        "displayed state": displayed_state.diagram(),
        "link": mermaid(transitions.TABLE, LinkPhase.DOWN),
        "drain": mermaid(drain.TABLE, DrainPhase.LOOKING),
    }


def drawn(text: str) -> str:
    """Return the page with every diagram drawn. Raises: ValueError where the page has no place for one."""
    for name, lines in diagrams().items():
        block = re.compile(rf"(?<=<!-- diagram: {name} -->\n```mermaid\n).*?(?=\n```)", re.DOTALL)
        text, count = block.subn(lambda _, lines=lines: lines, text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(
                f"{PAGE.name} needs one mermaid block below the marker of '{name}', and has {count}"
            )
    return text


def main() -> int:
    """Draw the page; exit code 1 if it has no place for a diagram."""
    try:
        page = drawn(PAGE.read_text(encoding="utf-8"))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
