"""The launch hook of modules/aws-spot outlasts the bootstrap: no machine is terminated while it may still succeed."""

from __future__ import annotations

import re
from functools import cache

from tests import ROOT

STEPS = {
    path.stem.split("-", 1)[1]: path.read_text() for path in (ROOT / "bootstrap/steps").glob("[0-9]*.sh")
}
WAITS = "secrets"
"""The step that waits for a person; where the secrets are references, as on AWS, it never has to."""


def header(step: str, name: str) -> str:
    """Return the value of a line `# NAME: VALUE` in a step; "" if there is none."""
    found = re.search(rf"^# {name}: *(.*)$", STEPS[step], re.MULTILINE)
    return found[1] if found else ""


@cache
def longest_s(step: str) -> int:
    """Return the seconds within which a step must have ended, counted from the start of the bootstrap."""
    own_s = 0 if step == WAITS else int(header(step, "deadline"))
    return own_s + max((longest_s(each) for each in header(step, "needs").split()), default=0)


def test_it_gives_the_bootstrap_all_of_its_time() -> None:
    text = (ROOT / "terraform/modules/aws-spot/variables.tf").read_text()
    least = re.search(r"var\.launch_timeout_s >= (\d+)", text)
    assert least
    assert WAITS in STEPS
    assert int(least[1]) > max(longest_s(step) for step in STEPS)
