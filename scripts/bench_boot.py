"""Measures how much time the bootstrap's parallel stages save, in the virtual machine of tests/machine/.

    make bench-boot                                          two boots, each from the real user data
    python -m scripts.bench_boot --delay 0.2 --mbyte-s 10    with a different line to the mirrors
    python -m scripts.bench_boot --image source              with the agent's image built in the machine

Both boots use the same machine, the same mirrors at the same pace, and the same tree; for the second boot the steps'
headers are changed so that each step waits for the one before. The agent's image is an archive from the mirrors, as in
a release. There are no assertions: figures depend on the host's load.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.machine import offline
from tests.machine.conftest import DISK, missing
from tests.machine.life import INSTALL_DEADLINE_S, TARBALL, begin
from tests.machine.mirrors import Pace
from tests.machine.site import Site, site
from tests.machine.vm import HOST_SEEN_FROM_INSIDE

TARGET = 0.65
ARCHIVE, SOURCE = "archive", "source"
STEP = re.compile(r"[^/]+/bootstrap/steps/\d\d-(?P<name>[a-z0-9-]+)\.sh")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    args = _arguments(argv)
    reason = missing() or (offline.missing() if args.image == SOURCE else None)
    if reason is not None:
        print(f"bench-boot: {reason}")
        return 1
    print(
        f"Booting twice, which takes a while. The mirrors answer after {args.delay:g} s at {args.mbyte_s:g} MB/s."
    )
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beta9-bench-boot-")))
        outside = stack.enter_context(site(place, Pace(args.delay, args.mbyte_s * 1e6)))
        changes = {}
        if args.image == SOURCE:
            changes = {
                "BETA9_AGENT_IMAGE": "",
                **offline.mirror(outside.mirrors, HOST_SEEN_FROM_INSIDE),
            }
        together = _boot(outside, place / "together", changes)
        outside.mirrors.files[TARBALL] = one_after_the_other(
            outside.mirrors.files[TARBALL], place / "chained.tar.gz"
        )
        alone = _boot(outside, place / "alone", changes)
    _show(together, alone)
    return 0


def one_after_the_other(tarball: Path, target: Path) -> Path:
    """Write the same tree with each step depending on the one before it, and return the new tarball."""
    with tarfile.open(tarball) as source, tarfile.open(target, "w:gz") as changed:
        previous = ""
        for member in sorted(source.getmembers(), key=lambda each: each.name):
            content = source.extractfile(member)
            step = STEP.fullmatch(member.name)
            if content is None or step is None:
                changed.addfile(member, content)
                continue
            text = re.sub(r"(?m)^# needs:.*$", f"# needs: {previous}", content.read().decode(), count=1)
            previous = step["name"]
            member.size = len(text.encode())
            changed.addfile(member, io.BytesIO(text.encode()))
    return target


def _boot(outside: Site, directory: Path, changes: dict[str, str]) -> dict[str, Any]:
    """Boot one machine until its bootstrap ends. Return bootstrap.json."""
    directory.mkdir()
    life = begin(outside, DISK, directory, with_secrets=True, **changes)
    try:
        life.fetch.set()
        life.vm.wait_ssh()
        life.vm.wait_for("the bootstrap has ended", lambda: _ended(life.bootstrap()), INSTALL_DEADLINE_S)
        return life.bootstrap()
    finally:
        life.vm.end()


def _ended(bootstrap: dict[str, Any]) -> bool:
    return bool(bootstrap.get("finished_at"))


def _show(together: dict[str, Any], alone: dict[str, Any]) -> None:
    chained = {each["name"]: each for each in alone["stages"]}
    print(f"\n{'stage':<16} {'parallel':>14} {'sequential':>12}")
    for stage in together["stages"]:
        other = chained.get(stage["name"], {}).get("seconds", float("nan"))
        print(f"{stage['name']:<16} {stage['seconds']:>12.1f} s {other:>10.1f} s")
    path_s, chain_s = _length_s(together), _length_s(alone)
    print(f"{'start to end':<16} {path_s:>12.1f} s {chain_s:>10.1f} s")
    print(f"{'sum of stages':<16} {_sum_s(together):>12.1f} s {_sum_s(alone):>10.1f} s")
    print(f"\nCritical path relative to the sum of the stages (target {TARGET:g})")
    print(f"  in the same boot:         {path_s / _sum_s(together):.2f}")
    print(f"  in the sequential boot:   {path_s / _sum_s(alone):.2f}")
    print(f"Results: {together['result']}, {alone['result']}; load on this host {os.getloadavg()[0]:.1f}")


def _length_s(bootstrap: dict[str, Any]) -> float:
    return max(float(each["started_s"]) + float(each["seconds"]) for each in bootstrap["stages"])


def _sum_s(bootstrap: dict[str, Any]) -> float:
    return sum(float(each["seconds"]) for each in bootstrap["stages"])


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench_boot", description="Measure how long the bootstrap takes."
    )
    parser.add_argument(
        "--delay", type=float, default=0.2, metavar="SECONDS", help="delay before each answer [0.2]"
    )
    parser.add_argument(
        "--mbyte-s", type=float, default=10, metavar="MB", help="bandwidth of the mirrors [10]"
    )
    parser.add_argument(
        "--image",
        default=ARCHIVE,
        choices=(ARCHIVE, SOURCE),
        help="load the image from an archive, or build it in the machine [%(default)s]",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
