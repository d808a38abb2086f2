"""boot.sh with a real Docker Engine: the bootstrap extracted from an image archive, tagged or not."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

BOOT = ROOT / "cloud-init" / "boot.sh"
INSTALL = b'#!/bin/bash\necho "installer of ${BASH_SOURCE[0]}"\n'

pytestmark = pytest.mark.container


def docker(*words: str, stdin: bytes | None = None) -> str:
    done = subprocess.run(["docker", *words], input=stdin, capture_output=True, check=True, timeout=240)
    return done.stdout.decode().strip()


def _engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=60).returncode == 0


@pytest.fixture
def image() -> Iterator[str]:
    """A minimal agent image: a bootstrap, and an entry point that is never run."""
    if not _engine_answers():
        pytest.skip("no Docker Engine is running: `scripts/engine.sh run …` starts one")
    name = f"beta9-test:{uuid.uuid4().hex[:12]}"
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        member = tarfile.TarInfo("opt/beta9-worker/bootstrap/install.sh")
        member.size = len(INSTALL)
        tar.addfile(member, io.BytesIO(INSTALL))
    docker("import", "-c", 'ENTRYPOINT ["/nothing"]', "-", name, stdin=layer.getvalue())
    yield name
    subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False, timeout=120)


@pytest.mark.parametrize("tagged", [True, False])
def test_the_bootstrap_is_extracted_and_no_container_is_left(
    image: str, tagged: bool, tmp_path: Path
) -> None:
    identity = docker("images", "-q", "--no-trunc", image)
    archive, root = tmp_path / "agent.tar", tmp_path / "root"
    docker("save", "-o", str(archive), image if tagged else identity)
    docker("rmi", image)
    (root / "etc/beta9-worker").mkdir(parents=True)
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    (root / "etc/beta9-worker/worker.env").write_text(f"BETA9_AGENT_IMAGE={archive}#sha256={checksum}\n")
    before = docker("ps", "-aq")
    done = subprocess.run(
        ["bash", str(BOOT)],
        env={**os.environ, "BETA9_ROOT": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    opt = root / "opt/beta9-worker"
    assert done.stdout.splitlines()[-1] == f"installer of {opt}/current/bootstrap/install.sh"
    assert (opt / "current").readlink() == Path("releases", checksum[:12])
    assert docker("ps", "-aq") == before
    subprocess.run(["docker", "rmi", "-f", identity], capture_output=True, check=False, timeout=120)
