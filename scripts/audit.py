"""`make audit`: checks every locked dependency for known vulnerabilities, without silently skipping any.

    python -m scripts.audit [LOCK …]

Queries PyPI (its JSON API includes the Python Packaging Advisory Database), or, with ADVISORIES=DIR, a checkout of that
database. pip-audit exits with 0 if it could not look up a package; here that is a failure, and so is a locked package
that is missing from its report.

Exit code 0: all packages were checked and none is vulnerable. 1: each finding, or package not checked, is listed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.advisories import served

ROOT = Path(__file__).parents[1]
LOCKS = (ROOT / "requirements/runtime.lock", ROOT / "requirements/dev.lock")
_PIN = re.compile(r"(?m)^[A-Za-z0-9].*?==.*?(?= \\$| --hash|$)")


def locked(lock: Path) -> list[Requirement]:
    """Return every pin of a lock, including those for other Python versions and platforms."""
    return [Requirement(line.strip()) for line in _PIN.findall(lock.read_text(encoding="utf-8"))]


def pins(lock: Path) -> dict[str, str]:
    """Return package → version, as locked for this Python version and platform."""
    return {
        canonicalize_name(each.name): str(each.specifier).removeprefix("==")
        for each in locked(lock)
        if each.marker is None or each.marker.evaluate()
    }


def audit(locks: Sequence[Path], service: Sequence[str]) -> Mapping[str, Any]:
    """Return pip-audit's report. Raises: RuntimeError with its error output if there is none."""
    files = [word for lock in locks for word in ("-r", str(lock))]
    options = ["--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json", *service]
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", *options, *files],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise RuntimeError(
            f"pip-audit made no report (exit {done.returncode}): {done.stderr.strip()[-2000:]}"
        ) from None
    assert isinstance(report, dict)
    return report


def findings(report: Mapping[str, Any], wanted: Mapping[str, str]) -> list[str]:
    """Return the findings: known vulnerabilities, skipped packages, and packages missing from the report."""
    found = []
    seen: dict[str, set[str]] = {}
    for each in report["dependencies"]:
        name = canonicalize_name(each["name"])
        if "skip_reason" in each:
            found.append(f"{name}: not checked: {each['skip_reason']}")
            continue
        seen.setdefault(name, set()).add(each["version"])
        for known in each["vulns"]:
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            found.append(
                f"{name} {each['version']}: {known['id']} ({', '.join(known['aliases'])}), fixed in {fixed}"
            )
    found += [
        f"{name} {version}: locked, but missing from the report"
        for name, version in wanted.items()
        if version not in seen.get(name, set())
        and not any(line.startswith(f"{name}: not checked") for line in found)
    ]
    return sorted(found)


@contextmanager
def _service() -> Iterator[list[str]]:
    checkout = os.environ.get("ADVISORIES")
    if not checkout:
        yield ["--vulnerability-service=pypi"]
        return
    with served(Path(checkout)) as url:
        yield ["--vulnerability-service=osv", f"--osv-url={url}"]


def main(words: Sequence[str]) -> int:
    locks = [Path(word) for word in words] or list(LOCKS)
    wanted: dict[str, str] = {}
    for lock in locks:
        wanted |= pins(lock)
    try:
        with _service() as service:
            report = audit(locks, service)
    except (RuntimeError, FileNotFoundError) as error:
        print(f"audit: {error}", file=sys.stderr)
        return 1
    found = findings(report, wanted)
    for line in found:
        print(f"audit: {line}", file=sys.stderr)
    print(f"audit: {len(wanted)} locked packages, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
