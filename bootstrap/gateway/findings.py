"""Results of checks, formatted for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

OK = "ok"
WARNING = "warning"
"""Works, but not well; does not make check.py fail."""
FAILED = "failed"
SKIPPED = "skipped"
"""Could not be checked; `seen` has the reason."""


@dataclass(frozen=True)
class Finding:
    """One check: what was seen, and how to fix it unless the verdict is ok."""

    name: str
    verdict: str
    seen: str
    fix: str = ""


def judged(name: str, good: bool, seen: str, fix: str, otherwise: str = FAILED) -> Finding:
    """Return a finding that is ok if `good`, else one with the verdict `otherwise` and the fix."""
    return Finding(name, OK, seen) if good else Finding(name, otherwise, seen, fix)


def has_failed(findings: Sequence[Finding]) -> bool:
    return any(finding.verdict == FAILED for finding in findings)


def as_json(findings: Sequence[Finding]) -> str:
    return json.dumps(
        {"ok": not has_failed(findings), "findings": [asdict(each) for each in findings]}, indent=2
    )


def as_text(findings: Sequence[Finding]) -> str:
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:8} {finding.name:{width}}  {finding.seen}")
        if finding.fix:
            lines.append(f"{'':8} {'':{width}}  -> {finding.fix}")
    return "\n".join(lines)
