"""A stand-in for the k3s program, run inside the virtual machine where no real k3s is available.

It reproduces what bootstrap and agent see of k3s: a single file that acts as `k3s`, `kubectl`, `ctr` or `crictl`
depending on its name; `k3s server`, which reads /etc/rancher/k3s/config.yaml, unpacks itself into its data directory,
notifies the service manager when it is up, and applies the files in server/manifests. Its API server (with etcd) and
its kubectl are the real Kubernetes programs. There are no kubelet and containerd, so no pod ever runs, no controllers
and no scheduler. node.py reports the node as ready in place of a kubelet.

Runs on the Python of a Debian with cloud-init (3.11, with PyYAML); built by tests/machine/standin.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .payload import unpacked, version

KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"


def main() -> int:
    name = Path(sys.argv[0]).name
    words = sys.argv[1:]
    if name not in {"kubectl", "ctr", "crictl"}:
        name, words = (words[0], words[1:]) if words else ("--help", [])
    if name in {"--version", "-v"}:
        print(f"k3s version {version()} (stand-in)")
        return 0
    if name == "kubectl":
        os.environ.setdefault("KUBECONFIG", KUBECONFIG)
        kubectl = str(unpacked(_data_dir()) / "kubectl")
        os.execv(kubectl, ["kubectl", *words])
    if name == "server":
        return _serve(words)
    print(f"k3s stand-in: unsupported command {name!r}", file=sys.stderr)
    return 1


def _serve(words: list[str]) -> int:
    # Imported here, since every kubectl call starts this program, and an emulated processor takes a second for PyYAML.
    from .config import ConfigError, read_config
    from .server import Server

    try:
        return Server(read_config(words)).run()
    except ConfigError as error:
        print(f"k3s stand-in: {error}", file=sys.stderr)
        return 1


def _data_dir() -> Path:
    standard = Path("/var/lib/rancher/k3s")
    if (standard / "data").exists():
        return standard
    from .config import ConfigError, read_config

    try:
        return read_config([]).data_dir
    except (ConfigError, PermissionError):
        return standard
