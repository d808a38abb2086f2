"""docs/quickstart.md, followed to the letter: its marked blocks run as they stand there, on a host of their own.

The host is a mount and a network namespace: what the guide writes to /etc and /var/lib goes to an overlay, and ports 22
and 31994 are free. Real: setup.sh, check.py, sshd, ssh and the agent. Stand-ins: the gateway, the `beta9` command (it
prints the real one's text), k3s and `sudo`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

GUIDE = ROOT / "docs" / "quickstart.md"
DEADLINE_S = 240
PROGRAMS = {
    "sudo": 'exec "$@"',
    "beta9": f'shift; exec {sys.executable} -m agent.demo.listing --admin http://127.0.0.1:1995 "$1"',
}
HOST = f"""
set -euo pipefail
overlay() {{
    mkdir -p "$1/up" "$1/work"
    mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/up,workdir=$1/work" "$2"
}}
mount -t tmpfs tmpfs "$SCRATCH"
overlay "$SCRATCH/etc" /etc
overlay "$SCRATCH/lib" /var/lib
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
mkdir -p /run/sshd /etc/rancher/k3s
ssh-keygen -A >/dev/null
"$(PATH=$PATH:/usr/sbin command -v sshd)" -D -e -o PidFile=/run/sshd.pid 2>"$SCRATCH/sshd.log" &
{sys.executable} -m agent.demo.gateway --port 31994 --admin-port 1995 --pool gpu: --demand 1 --health-interval 1 &
{sys.executable} -m agent.demo.kubernetes --gpus 0 --kubeconfig /etc/rancher/k3s/k3s.yaml &
await() {{ for _ in $(seq 600); do ! "$@" || return 0; sleep 0.2; done; echo "waited in vain for: $*" >&2; return 1; }}
listens() {{ (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }}
for port in 22 1995 6443 31994; do await listens "$port"; done
"""


def block(name: str) -> str:
    """Return the commands of a block that is marked as tried."""
    found = re.search(
        rf"<!-- tried: {name} -->\n```bash\n(.*?)```\n", GUIDE.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found, f"no block '{name}'"
    return found[1]


def script() -> str:
    """Return the guide's steps, with the answers that a reader would fill in."""
    settings = (
        block("settings").replace("gateway.example.com", "127.0.0.1").replace("SHA256:…", "$FINGERPRINT")
    )
    *prepare, start = block("start").replace("make setup\n", "").strip().splitlines()
    return "\n".join(
        [
            HOST,
            f"{{\n{block('gateway')}}} | tee gateway.txt",
            "FINGERPRINT=$(grep -o 'SHA256:[^ ]*' gateway.txt | tail -n 1)",
            f"{{\n{block('token')}}} | tee token.txt",
            'sed -n \'s/.*--token "\\([^"]*\\)".*/\\1/p\' token.txt >token',
            settings.replace("<<'END'", "<<END"),
            *(f"{line} || echo 'exit code' $?" for line in prepare),
            f"{start} 2>&1 &",
            f"is_ready() {{ {block('list').strip()} >list.txt && grep -q ready list.txt; }}",
            "await is_ready",
            "cat list.txt",
            f"is_placed() {{ {block('status').strip()} >status.txt && grep -q 'offers *everything (' status.txt; }}",
            "await is_placed",
            "cat status.txt",
        ]
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A clone as far as the commands can see, where they may create files."""
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    if subprocess.run(["unshare", "-mn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this host allows no namespaces")
    clone, programs = tmp_path / "clone", tmp_path / "bin"
    clone.mkdir()
    programs.mkdir()
    (tmp_path / "scratch").mkdir()
    for name in ("bootstrap", "agent", ".venv"):
        (clone / name).symlink_to(ROOT / name)
    for name, body in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    return clone


def test_following_the_quick_start_leads_to_a_machine_in_the_list(directory: Path) -> None:
    place = directory.parent
    environment = {
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "HOME": str(place),
        "LC_ALL": "C.UTF-8",
        "SCRATCH": str(place / "scratch"),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    # The process namespace ends with its first process, and all others with it.
    argv = [
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        "bash",
        "-c",
        script(),
    ]
    done = subprocess.run(
        argv, cwd=directory, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert not re.search(r"^failed", (directory / "gateway.txt").read_text(), re.MULTILINE), output
    token = (directory / "token").read_text().strip()
    assert len(token) == 88, output
    listed = (directory / "list.txt").read_text()
    assert re.search(r"^ *[0-9a-f]{8} .* ready +gpu ", listed, re.MULTILINE), listed
    status = (directory / "status.txt").read_text()
    assert re.search(r"^machine +[0-9a-f]{8} in pool gpu: READY", status), status
    assert re.search(r"^functions +cannot run here: the tunnel brings", status, re.MULTILINE), status
    assert token not in output.replace(f'--token "{token}"', "")
