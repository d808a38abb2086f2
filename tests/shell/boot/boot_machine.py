"""A temporary root directory in which cloud-init/boot.sh runs, and the releases that it downloads."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.host.boot_record import read_boot
from agent.core.provisioning.env_file import env_lines
from tests import ROOT

BOOT = ROOT / "cloud-init" / "boot.sh"
HEAD = ROOT / "cloud-init" / "script-head.sh"
INSTALL = (
    '#!/bin/bash\nprintf "installer of %s: %s\\n" "${BASH_SOURCE[0]}" "$*"\nenv >"$BETA9_ROOT/environment"\n'
)


@dataclass
class Machine:
    """A root directory, and a PATH on which some programs only log their calls."""

    root: Path
    bin: Path
    script: Path = BOOT

    def __post_init__(self) -> None:
        self.bin.mkdir()
        self.stand_in("poweroff")
        self.stand_in("systemctl", 'exit "${WORKER_ACTIVE:-3}"')

    def stand_in(self, name: str, body: str = "exit 0") -> None:
        program = self.bin / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.root.parent}/called"\n{body}\n')
        program.chmod(0o755)

    def called(self, name: str) -> list[str]:
        log = self.root.parent / "called"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.split()[0] == name]

    def settings(self, values: Mapping[str, str]) -> None:
        path = self.root / "etc/beta9-worker/worker.env"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["# settings", *env_lines(values), "# end of settings", ""]))

    def boot(self, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "BETA9_ROOT": str(self.root),
            "BETA9_RETRY_DELAY": "0",
            **environ,
        }
        return subprocess.run(
            ["bash", str(self.script)], capture_output=True, text=True, check=False, timeout=120, env=env
        )

    def tree(self) -> dict[str, float]:
        """Return every path with its modification time, except for the record of the last run."""
        return {
            str(path): path.lstat().st_mtime for path in self.root.rglob("*") if path.name != "environment"
        }

    @property
    def opt(self) -> Path:
        return self.root / "opt/beta9-worker"

    def failure(self) -> dict[str, str]:
        record: dict[str, str] = json.loads((self.root / "var/lib/beta9-worker/bootstrap.json").read_text())
        assert read_boot(record) is not None
        return record


def tarball(path: Path, install: str | None = INSTALL) -> str:
    """Write a source tarball to `path`; return its location with checksum."""
    with tarfile.open(path, "w:gz") as tar:
        names = {"README": "read me\n", **({"bootstrap/install.sh": install} if install else {})}
        for name, text in names.items():
            member = tarfile.TarInfo(f"beta9-worker-0.1.0/{name}")
            member.size, member.uid, member.mode = len(text.encode()), 4711, 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    return located(f"file://{path}", path)


def located(location: str, path: Path) -> str:
    return f"{location}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


def broken(machine: Machine, source: str, **more: str) -> str:
    """Boot with this source, which must fail, report the failure and run nothing; return stderr."""
    machine.settings({"BETA9_SOURCE": source, **more})
    done = machine.boot()
    assert done.returncode != 0
    assert "installer of" not in done.stdout
    assert not (machine.opt / "current").exists()
    assert not list(machine.opt.glob(".boot*")), "no partial download stays"
    assert "beta9-boot: FAILED: " in done.stderr
    assert "; fix: " in done.stderr
    record = machine.failure()
    assert (record["result"], record["failed_stage"]) == ("failed", "boot")
    return done.stderr
