"""`make sbom`: writes the software bill of materials as CycloneDX JSON, or fails if it would be incomplete.

    python -m scripts.sbom OUTPUT [LOCK]

It is derived from the lock, not from an environment, so it lists exactly what the image installs, including hashes. It
is reproducible: the same lock gives the same bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from scripts.audit import ROOT, locked


def make(lock: Path, *, validate: bool = True) -> str:
    """Return the SBOM's text. Validation against CycloneDX's schema takes nine tenths of the time.

    Raises: RuntimeError naming the locked packages that are missing from it.
    """
    program = Path(sys.executable).with_name("cyclonedx-py")
    options = [
        "--pyproject",
        str(ROOT / "pyproject.toml"),
        "--output-reproducible",
        "--validate" if validate else "--no-validate",
        "--of=JSON",
        "-o",
        "-",
    ]
    done = subprocess.run(
        [str(program), "requirements", *options, str(lock)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"cyclonedx-py exited with {done.returncode}: {done.stderr.strip()[-2000:]}")
    listed = {
        (canonicalize_name(each["name"]), each["version"]) for each in json.loads(done.stdout)["components"]
    }
    wanted = {(canonicalize_name(each.name), str(each.specifier).removeprefix("==")) for each in locked(lock)}
    if missing := sorted(wanted - listed):
        raise RuntimeError(f"the SBOM lacks {', '.join(' '.join(each) for each in missing)} from {lock}")
    return done.stdout


def main(words: Sequence[str]) -> int:
    output = Path(words[0])
    lock = Path(words[1]) if len(words) > 1 else ROOT / "requirements/runtime.lock"
    try:
        text = make(lock)
    except RuntimeError as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print(f"sbom: {output}: {len(json.loads(text)['components'])} components")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
